package datastore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"mk8s.io/mk/core/datastore/etcd"
	"mk8s.io/mk/sdk/plugin"
)

const (
	poll = 200 * time.Millisecond // between two looks
	// changeLimit bounds a change for which the caller has no deadline.
	changeLimit = 2 * time.Minute
)

// Progress is told what is waited for. It may be nil.
type Progress = func(string)

func tell(p Progress, format string, args ...any) {
	if p != nil {
		p(fmt.Sprintf(format, args...))
	}
}

// change looks at the members and acts, again and again until act says that it
// is done, its error is final, or the time is over. So an answer that was lost,
// a leader that moved and a member that is just electing all look the same.
func (c *Client) change(ctx context.Context, what string, act func(context.Context, *Status) (done bool, err error)) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, changeLimit)
		defer cancel()
	}
	var last error
	for {
		s, err := c.list(ctx)
		done := false
		if err == nil {
			done, err = act(ctx, s)
		}
		if done && err == nil {
			return nil
		}
		if final(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		if pause(ctx, poll) != nil {
			return c.late(ctx, what, last)
		}
	}
}

// late says why the time was not enough; without a quorum, that.
func (c *Client) late(ctx context.Context, what string, last error) error {
	asked, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*statusLimit)
	defer cancel()
	if s, err := c.Status(asked); err == nil && s.Need() != nil {
		return fmt.Errorf("%s: %w", what, s.Need())
	}
	if last == nil {
		last = ctx.Err()
	}
	return fmt.Errorf("%s: %w", what, last)
}

// final reports whether trying again cannot help.
func final(err error) bool {
	_, refused := errors.AsType[*plugin.Error](err)
	return refused || conclusive(err)
}

// Silent is true for an error that says that no member answered, or none with
// a quorum behind it: later there may be an answer.
func Silent(err error) bool {
	_, noQuorum := errors.AsType[*QuorumError](err)
	return noQuorum || errors.Is(err, context.DeadlineExceeded) || etcd.Silent(err)
}

// Joining is the reason of a refusal for as long as another node is a learner.
const Joining plugin.Reason = "JOINING"

// AddLearner makes the member of a peer address a learner. One that is a
// learner already stays as it is; one that votes already is refused, because
// whoever starts there anew would vote without what it had promised.
func (c *Client) AddLearner(ctx context.Context, peer string) error {
	return c.change(ctx, "add "+peer+" to the datastore", func(ctx context.Context, s *Status) (bool, error) {
		if m := s.find(peer); m != nil {
			if m.Role == Learner {
				return true, nil
			}
			return false, plugin.Errorf(plugin.NotPossible, "%s votes already: a node that starts anew there must be removed first (mk remove-node %s)", m.Label(), m.Label())
		}
		err := c.ask(ctx, func(ctx context.Context, e *etcd.Conn) error { return e.AddLearner(ctx, peer) })
		switch {
		case errors.Is(err, rpctypes.ErrTooManyLearners):
			return false, plugin.Errorf(Joining, "%s is joining just now: one after the other", learners(s))
		case errors.Is(err, rpctypes.ErrMemberExist), errors.Is(err, rpctypes.ErrPeerURLExist), errors.Is(err, rpctypes.ErrMemberNotFound):
			return false, nil // since the look; or its ID, which is of the address and the second, is of one just removed
		case errors.Is(err, rpctypes.ErrMemberBadURLs):
			return false, plugin.Errorf(plugin.BadArgument, "%q is not https://address:port", peer)
		}
		return false, err // also after success: seen is believed
	})
}

func learners(s *Status) string {
	var names []string
	for i := range s.Members {
		if s.Members[i].Role == Learner {
			names = append(names, s.Members[i].Label())
		}
	}
	if len(names) == 0 {
		return "another node" // it was there when etcd counted
	}
	return strings.Join(names, ", ")
}

// Promote lets a learner vote once it holds what the leader holds. One that
// votes already stays as it is.
func (c *Client) Promote(ctx context.Context, peer string, progress Progress) error {
	if err := c.WaitCaughtUp(ctx, peer, progress); err != nil {
		return err
	}
	return c.change(ctx, "let "+peer+" vote", func(ctx context.Context, s *Status) (bool, error) {
		m := s.find(peer)
		if m == nil {
			return false, errNoMember(peer)
		}
		if m.Role == Voter {
			return true, nil
		}
		err := c.ask(ctx, func(ctx context.Context, e *etcd.Conn) error { return e.Promote(ctx, m.id) })
		if errors.Is(err, rpctypes.ErrMemberNotLearner) || errors.Is(err, rpctypes.ErrMemberNotFound) {
			return false, nil
		}
		return false, err
	})
}

func errNoMember(peer string) error {
	return plugin.Errorf(plugin.NotPossible, "%s is no member of the datastore", peer)
}

// Remove removes the member of a peer address; one that is not there is no
// error. The last voter is refused. Who is needed for a quorum is refused, too,
// unless those that are silent answer again within patience: they may start just
// now. A leader hands over first.
func (c *Client) Remove(ctx context.Context, peer string, patience time.Duration, progress Progress) error {
	silent := away{patience: patience, progress: progress}
	return c.change(ctx, "remove "+peer+" from the datastore", func(ctx context.Context, _ *Status) (bool, error) {
		s, err := c.Status(ctx)
		if err != nil {
			return false, err
		}
		if err := s.Need(); err != nil {
			silent.tell(s, err)
			return false, err
		}
		m := s.find(peer)
		if m == nil {
			return true, nil
		}
		if needed, err := s.mayLeave(m); needed && !silent.over(s, err) {
			return false, errors.New(err.Error()) // not final yet
		} else if err != nil {
			return false, err
		}
		if m.Leader {
			if err := c.handOver(ctx, s, m); err != nil {
				return false, err
			}
		}
		c.askLast(m)
		err = c.ask(ctx, func(ctx context.Context, e *etcd.Conn) error { return e.Remove(ctx, m.id) })
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return false, nil
		}
		return false, err
	})
}

// away are members that may start again.
type away struct {
	patience time.Duration
	progress Progress
	end      <-chan time.Time
	told     string
}

// over reports whether they were waited for long enough.
func (a *away) over(s *Status, why error) bool {
	if a.end == nil {
		a.end = time.After(a.patience)
	}
	select {
	case <-a.end:
		return true
	default:
		a.tell(s, why)
		return false
	}
}

func (a *away) tell(s *Status, why error) {
	var names []string
	for _, m := range s.Silent() {
		names = append(names, m.Label())
	}
	if text := fmt.Sprintf("wait for %s: %v", strings.Join(names, ", "), why); text != a.told {
		a.told = text
		tell(a.progress, "%s", text)
	}
}

// mayLeave refuses a removal after which nothing could be committed; needed
// means that it could if others answered.
func (s *Status) mayLeave(m *Member) (needed bool, err error) {
	if m.Role == Learner {
		return false, nil
	}
	rest, answer := 0, 0
	for _, v := range s.Voters() {
		if v.id == m.id {
			continue
		}
		rest++
		if v.Answers {
			answer++
		}
	}
	switch {
	case rest == 0:
		return false, plugin.Errorf(plugin.NotPossible, "%s is the last member that votes: what the cluster knows would be lost", m.Label())
	case answer <= rest/2:
		return true, plugin.Errorf(plugin.NotPossible, "without %s, %d of %d members would answer, and nothing could be changed", m.Label(), answer, rest)
	}
	return false, nil
}

// MoveLeader gives the leadership away from the member of a peer address to
// the voter that is least behind. Where another one leads, it is done.
func (c *Client) MoveLeader(ctx context.Context, from string) error {
	return c.change(ctx, "move the datastore's leadership away from "+from, func(ctx context.Context, _ *Status) (bool, error) {
		s, err := c.Status(ctx)
		if err != nil {
			return false, err
		}
		m := s.find(from)
		if m == nil || (s.Leader != "" && !m.Leader) {
			return true, nil
		}
		if !m.Leader {
			return false, nil // nobody leads just now
		}
		return false, c.handOver(ctx, s, m)
	})
}

func (c *Client) handOver(ctx context.Context, s *Status, leader *Member) error {
	var best *Member
	for i := range s.Members {
		v := &s.Members[i]
		if v.Role == Voter && v.Answers && v.id != leader.id && (best == nil || v.Lag < best.Lag) {
			best = v
		}
	}
	if best == nil {
		return plugin.Errorf(plugin.NotPossible, "no other member that votes answers: %s has nobody to hand over to", leader.Label())
	}
	e, err := c.at(leader.ClientAddress)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*attempt)
	defer cancel()
	if err := e.MoveLeader(ctx, best.id); err != nil && !errors.Is(err, rpctypes.ErrNotLeader) {
		return fmt.Errorf("hand the leadership over to %s: %w", best.Label(), err)
	}
	return nil
}

// WaitCaughtUp waits until a member has applied what the leader had when it
// was first asked.
func (c *Client) WaitCaughtUp(ctx context.Context, peer string, progress Progress) error {
	var goal uint64
	said := ""
	return c.change(ctx, "wait until "+peer+" has caught up", func(ctx context.Context, _ *Status) (bool, error) {
		s, err := c.Status(ctx)
		if err != nil {
			return false, err
		}
		m := s.find(peer)
		if m == nil {
			return false, errNoMember(peer)
		}
		if goal == 0 {
			goal = s.head()
		}
		why := m.Silence
		switch {
		case goal == 0:
			why = "the datastore has no leader"
		case m.Answers && m.Applied >= goal:
			return true, nil
		case m.Answers:
			why = fmt.Sprintf("%d entries behind", goal-m.Applied)
		}
		if why != said {
			tell(progress, "%s: %s", m.Label(), why)
			said = why
		}
		return false, errors.New(why)
	})
}

// head is the leader's newest entry; 0 where nobody leads.
func (s *Status) head() uint64 {
	for i := range s.Members {
		if s.Members[i].Leader {
			return s.Members[i].Index
		}
	}
	return 0
}

// WaitVoting waits until a member votes.
func (c *Client) WaitVoting(ctx context.Context, peer string, progress Progress) error {
	said := false
	return c.change(ctx, "wait until "+peer+" votes", func(_ context.Context, s *Status) (bool, error) {
		m := s.find(peer)
		if m == nil {
			return false, errNoMember(peer)
		}
		if m.Role == Voter {
			return true, nil
		}
		if !said {
			tell(progress, "%s does not vote yet", m.Label())
			said = true
		}
		return false, errors.New("it does not vote yet")
	})
}
