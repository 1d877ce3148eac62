package recovery

import (
	"context"
	"errors"
	"slices"
	"time"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/timer"
)

const (
	// electionLimit is far more than a datastore needs that has all its voters.
	electionLimit = 6 * time.Second
	settleLimit   = time.Minute
)

// SettleWithout has this node's datastore go on where it waits for the vote of a
// member that is gone. Of two voters one may have left before the other had
// written down that both agreed to that; killed then, it needs a vote that
// nobody gives any more. The caller knows that gone has left, by itself or by
// whoever removes it: all that the two ever agreed on is in this one's log. A
// datastore that has others to ask, or whose log does not say that gone left, is
// left as it is.
func (n Node) SettleWithout(ctx context.Context, gone string) error {
	if n.voter("") != nil || !n.Settling.TryLock() {
		return nil // it has no datastore, or another request is at it
	}
	defer n.Settling.Unlock()
	other := func(m datastore.Member) bool {
		return m.Role == datastore.Voter && m.Name != gone && m.Host() != n.Record.Address
	}
	for begun := time.Now(); time.Since(begun) < electionLimit; { // it may be choosing a leader
		// One that has never had a leader since it started says nothing at all.
		s, err := n.status(ctx)
		if err == nil && (s.Quorum || slices.ContainsFunc(s.Members, other)) {
			return nil
		}
		if !timer.Wait(ctx, time.Second/2) {
			return ctx.Err()
		}
	}
	if known, err := n.membersInFiles(ctx); err != nil || slices.ContainsFunc(known, other) {
		return err
	}
	n.detail("the datastore goes on without the vote of " + gone)
	list, err := n.Services().Status(ctx)
	if err != nil || !slices.ContainsFunc(list, func(s service.Status) bool { return s.Name == "etcd" && s.State == service.Running }) {
		return err // it was stopped, and is to stay so
	}
	// Whoever asked may go: what was stopped is started.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	if err = n.Services().Stop(ctx, "etcd"); err == nil {
		err = n.tool().Settle(ctx, n.Root.Path(data))
	}
	if err != nil { // it starts, and waits as before: nobody waits for it
		ctx, cancel = context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
	}
	return errors.Join(err, n.Services().Start(ctx, "etcd"))
}
