package observe

import (
	"context"
	"errors"
	"net/url"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/operation"
)

// members asks the datastore who votes, and whether it can commit.
func members(ctx context.Context, n *operation.Node) (_ fill, err error) {
	c, err := n.Datastore()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	st, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	return func(s *Status) {
		for _, m := range st.Members {
			if m.Role == datastore.Voter {
				s.Voters = append(s.Voters, hostPort(m.PeerAddress))
			} else {
				s.Standby = append(s.Standby, hostPort(m.PeerAddress))
			}
		}
		s.HA = len(s.Voters) > 2 && st.Quorum
	}, st.Need()
}

func hostPort(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}
