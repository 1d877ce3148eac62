package datastore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"mk8s.io/mk/core/datastore/etcd"
)

// Roles of members.
const (
	Voter   = "voter"
	Learner = "learner"
)

// Member is one member of the datastore, and what it said.
type Member struct {
	ID            string `json:"id"`             // 16 hex digits
	Name          string `json:"name,omitempty"` // empty until it was started once
	PeerAddress   string `json:"peerAddress"`
	ClientAddress string `json:"clientAddress,omitempty"`
	Role          string `json:"role"`
	Leader        bool   `json:"leader"`
	Answers       bool   `json:"answers"`
	Silence       string `json:"silence,omitempty"` // why it does not answer
	// Since is when a silent member's node was last heard of; zero where that is not known.
	Since   time.Time `json:"since,omitzero"`
	Version string    `json:"version,omitempty"`
	Size    int64     `json:"sizeBytes,omitempty"`  // of its database on the disk
	InUse   int64     `json:"inUseBytes,omitempty"` // of which holds something
	Index   uint64    `json:"raftIndex,omitempty"`
	Applied uint64    `json:"appliedIndex,omitempty"`
	Lag     uint64    `json:"lag"` // entries that the leader has and it has not applied
	Alarms  []string  `json:"alarms,omitempty"`

	id uint64
}

// Label is a member's name, or its address while it has none.
func (m *Member) Label() string {
	if m.Name != "" {
		return m.Name
	}
	return m.Host()
}

// Host is the address under which the others reach it.
func (m *Member) Host() string {
	if u, err := url.Parse(m.PeerAddress); err == nil && u.Hostname() != "" {
		return u.Hostname()
	}
	return m.PeerAddress
}

// Status is how the datastore is.
type Status struct {
	ClusterID string   `json:"clusterId"`
	Quorum    bool     `json:"quorum"` // it can commit
	Leader    string   `json:"leader,omitempty"`
	Revision  int64    `json:"revision,omitempty"`
	Members   []Member `json:"members"`
	Alarms    []string `json:"alarms,omitempty"`
}

// Voters are the members that vote.
func (s *Status) Voters() []Member {
	return slices.DeleteFunc(slices.Clone(s.Members), func(m Member) bool { return m.Role != Voter })
}

// Silent are the voters that do not answer.
func (s *Status) Silent() []Member {
	return slices.DeleteFunc(s.Voters(), func(m Member) bool { return m.Answers })
}

// QuorumError says that too few members answer to change anything.
type QuorumError struct{ Status *Status }

// Error counts who answers.
func (e *QuorumError) Error() string {
	voters := e.Status.Voters()
	return fmt.Sprintf("the datastore has no quorum: %d of %d members answers", len(voters)-len(e.Status.Silent()), len(voters))
}

// Need is a QuorumError where the datastore cannot commit.
func (s *Status) Need() error {
	if s.Quorum {
		return nil
	}
	return &QuorumError{Status: s}
}

// statusLimit is how long one member has to say how it is.
const statusLimit = 2 * time.Second

// Status asks every member how it is, all at once, and in a few seconds. Who
// does not answer is in the answer; an error means that nobody knows the
// members.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*statusLimit)
	defer cancel()
	s, err := c.roll(ctx)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	leaders := make([]uint64, len(s.Members))
	for i := range s.Members {
		wg.Go(func() { leaders[i] = c.examine(ctx, &s.Members[i], &s.Revision) })
	}
	wg.Wait()
	s.conclude(leaders)
	if len(s.Silent()) > 0 {
		c.lastHeard(ctx, s.Members)
	}
	return s, nil
}

// hedge is how long the node's own member has to answer before the others are
// asked too.
const hedge = 100 * time.Millisecond

// roll is who the members are. The node's own is asked, and all known ones where
// it fails or is slow. A list that was agreed on is preferred; where there is no
// quorum, any member's own has to do.
func (c *Client) roll(ctx context.Context) (*Status, error) {
	one, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	type answer struct {
		status *Status
		err    error
	}
	endpoints := c.known()
	answers := make(chan answer, 2*len(endpoints)) // room for who comes late
	others, askOthers := context.WithTimeout(one, hedge)
	defer askOthers()
	for i, endpoint := range endpoints {
		for _, agreed := range []bool{true, false} {
			go func() {
				if i > 0 {
					<-others.Done()
				}
				s, err := c.listAt(one, endpoint, agreed)
				if err != nil {
					askOthers()
				}
				answers <- answer{s, err}
			}()
		}
	}
	var own *Status
	last := errors.New("no member's address is known")
	for range 2 * len(endpoints) {
		a := <-answers
		switch {
		case a.err != nil:
			last = a.err
		case a.status.Quorum:
			return a.status, nil
		default:
			own = a.status
		}
	}
	if own == nil {
		return nil, fmt.Errorf("ask the datastore for its members: %w", last)
	}
	return own, nil
}

// list is the members as a majority knows them.
func (c *Client) list(ctx context.Context) (*Status, error) {
	var s *Status
	err := c.ask(ctx, func(ctx context.Context, e *etcd.Conn) (err error) {
		s, _, err = c.listOf(ctx, e, true)
		return err
	})
	return s, err
}

func (c *Client) listAt(ctx context.Context, endpoint string, agreed bool) (*Status, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // answered by another
	}
	e, err := c.at(endpoint)
	if err != nil {
		return nil, err
	}
	s, self, err := c.listOf(ctx, e, agreed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", endpoint, err)
	}
	c.met(self, endpoint)
	return s, nil
}

// listOf is the members as one member knows them, or as all agreed, and which
// one that is.
func (c *Client) listOf(ctx context.Context, e *etcd.Conn, agreed bool) (s *Status, self uint64, err error) {
	roll, err := e.Members(ctx, agreed)
	if err != nil {
		return nil, 0, err
	}
	s = &Status{ClusterID: fmt.Sprintf("%016x", roll.Cluster), Quorum: agreed}
	for _, m := range roll.Members {
		s.Members = append(s.Members, memberOf(m))
	}
	slices.SortFunc(s.Members, func(a, b Member) int { return strings.Compare(a.Name+a.PeerAddress, b.Name+b.PeerAddress) })
	c.learn(s.Members)
	return s, roll.Self, nil
}

func memberOf(m etcd.Member) Member {
	out := Member{id: m.ID, ID: fmt.Sprintf("%016x", m.ID), Name: m.Name, Role: Voter}
	if m.Learner {
		out.Role = Learner
	}
	if len(m.PeerURLs) > 0 {
		out.PeerAddress = m.PeerURLs[0]
	}
	if len(m.ClientURLs) > 0 {
		out.ClientAddress = m.ClientURLs[0]
	}
	return out
}

// examine fills in what a member says of itself, and returns whom it follows.
func (c *Client) examine(ctx context.Context, m *Member, revision *int64) (leader uint64) {
	if m.ClientAddress == "" {
		m.Silence = "it was never started"
		return 0
	}
	e, err := c.at(c.where(m))
	if err != nil {
		m.Silence = err.Error()
		return 0
	}
	one, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	st, err := e.Status(one)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in %s", statusLimit)
	}
	if err != nil {
		m.Silence = err.Error()
		return 0
	}
	if st.Member != m.id {
		m.Silence = fmt.Sprintf("member %016x answers in its place", st.Member)
		return 0
	}
	m.Answers, m.Version, m.Size, m.InUse = true, st.Version, st.Size, st.InUse
	m.Index, m.Applied, m.Leader, m.Alarms = st.RaftIndex, st.RaftApplied, st.Leader == m.id, st.Errors
	if m.Leader {
		*revision = st.Revision // one member at most leads
	}
	return st.Leader
}

// conclude compares what the members said.
func (s *Status) conclude(leaders []uint64) {
	var head uint64
	for i := range s.Members {
		m := &s.Members[i]
		if m.Leader {
			s.Leader, head = m.Label(), m.Index
		}
		s.Alarms = append(s.Alarms, m.Alarms...)
	}
	for i := range s.Members {
		if m := &s.Members[i]; m.Answers && head > m.Applied {
			m.Lag = head - m.Applied
		}
		if s.Leader == "" && leaders[i] != 0 {
			s.Leader = s.labelOf(leaders[i])
		}
	}
	slices.Sort(s.Alarms)
	s.Alarms = slices.Compact(s.Alarms)
}

func (s *Status) labelOf(id uint64) string {
	for i := range s.Members {
		if s.Members[i].id == id {
			return s.Members[i].Label()
		}
	}
	return ""
}

// find is the member of a peer address, or nil.
func (s *Status) find(peer string) *Member {
	for i := range s.Members {
		if strings.EqualFold(strings.TrimSuffix(s.Members[i].PeerAddress, "/"), strings.TrimSuffix(peer, "/")) {
			return &s.Members[i]
		}
	}
	return nil
}
