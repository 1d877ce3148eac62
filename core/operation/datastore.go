package operation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// Datastore is a client of the cluster's datastore with this node's pair. The
// caller closes it. Nothing is asked yet.
func (n *Node) Datastore() (*datastore.Client, error) {
	credentials, err := datastore.Credentials(n.Root)
	if err != nil {
		return nil, err
	}
	endpoints, err := n.datastoreEndpoints()
	if err != nil {
		return nil, err
	}
	return datastore.New(datastore.Options{Endpoints: endpoints, TLS: credentials}), nil
}

// datastoreEndpoints are where this node's API server finds the datastore, and
// where the members that this node's own was started with serve clients: a
// learner answers nobody, so a node that joins needs the others.
func (n *Node) datastoreEndpoints() ([]string, error) {
	var out []string
	add := func(list string) {
		for e := range strings.SplitSeq(list, ",") {
			if e = strings.TrimSpace(e); e != "" && !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	api, err := n.arguments("kube-apiserver")
	if err != nil {
		return nil, err
	}
	add(api("etcd-servers"))
	etcd, err := n.arguments("etcd")
	if err != nil {
		return nil, err
	}
	add(etcd("listen-client-urls"))
	own, err := url.Parse(etcd("advertise-client-urls"))
	if err != nil || own.Port() == "" {
		return out, nil //nolint:nilerr // the members were given in another way
	}
	for m := range strings.SplitSeq(etcd("initial-cluster"), ",") {
		_, peer, _ := strings.Cut(m, "=")
		if u, err := url.Parse(peer); err == nil && u.Hostname() != "" {
			add(own.Scheme + "://" + net.JoinHostPort(u.Hostname(), own.Port()))
		}
	}
	return out, nil
}

// arguments are a service's options; those of a file that is not there are empty.
func (n *Node) arguments(service string) (func(option string) string, error) {
	file, err := args.Load(n.Root.Args(service))
	if errors.Is(err, fs.ErrNotExist) {
		return func(string) string { return "" }, nil
	}
	if err != nil {
		return nil, err
	}
	return func(option string) string {
		value, _ := file.Get(option)
		return value
	}, nil
}

// withDatastore does something with a client that is closed afterwards.
func (n *Node) withDatastore(do func(*datastore.Client) error) error {
	c, err := n.Datastore()
	if err != nil {
		return err
	}
	err = do(c)
	return errors.Join(err, c.Close())
}

// startsAgain is how long members without which there would be no quorum are
// waited for before another one goes.
const startsAgain = 20 * time.Second

// ChangeMember changes the datastore's members.
func (o *objectChanges) ChangeMember(ctx context.Context, m changeset.ChangeMember) error {
	return o.n.withDatastore(func(c *datastore.Client) error {
		switch m.Action {
		case changeset.AddLearner:
			return c.AddLearner(ctx, m.PeerAddress)
		case changeset.Promote:
			return c.Promote(ctx, m.PeerAddress, o.n.detail)
		case changeset.RemoveMember:
			return c.Remove(ctx, m.PeerAddress, startsAgain, o.n.detail)
		}
		return plugin.Errorf(plugin.BadArgument, "%q is nothing that is done to a member", string(m.Action))
	})
}

// waitMember waits until a member has caught up, or votes.
func (n *Node) waitMember(ctx context.Context, w changeset.Wait, progress func(string)) error {
	return n.withDatastore(func(c *datastore.Client) error {
		if w.MemberCaughtUp != "" {
			return c.WaitCaughtUp(ctx, w.MemberCaughtUp, progress)
		}
		if w.MemberVoting != "" {
			return c.WaitVoting(ctx, w.MemberVoting, progress)
		}
		return fmt.Errorf("there is nothing to wait for")
	})
}
