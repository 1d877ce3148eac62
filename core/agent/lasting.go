package agent

import (
	"context"
	"time"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/recovery"
	"mk8s.io/mk/sdk/plugin"
)

const (
	// firstLook is when a node asks the others after its agent was started: at
	// once where they are there, again while they may be on their way. One that
	// has no others lets its processor rest.
	firstLook  = 5 * time.Second
	firstLooks = 12
)

// looks asks the control plane's other nodes whether the cluster goes on
// without this one: after the start, when another one says that it asked, and
// now and then.
func (o Options) looks(ctx context.Context) {
	for n := 0; ; n++ {
		wait, alone := time.Minute, false
		err := o.task(ctx, "look whether the cluster goes on without this node", func(ctx context.Context, n *operation.Node) (err error) {
			wait, alone, err = recovery.Of(n).Look(ctx)
			return err
		})
		if err != nil {
			o.Log.Error("not done, tried again", "error", err.Error(), "in", wait.String())
		}
		if n < firstLooks && !alone {
			wait = firstLook
		}
		looking, cancel := context.WithTimeout(ctx, wait)
		select {
		case <-o.nudged:
		case <-looking.Done():
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
	}
}

// nudge has the node look soon; it never waits.
func (o Options) nudge() {
	select {
	case o.nudged <- struct{}{}:
	default: // it will
	}
}

// identity answers which cluster this is, and looks whether it is the newest:
// who asks may know of a newer one. What it says of it is not believed.
func (s *server) identity(n membership.Node, ctx context.Context, who membership.Caller, own peer.Identity) (*peer.Identity, error) {
	if who.Member == "" {
		return nil, plugin.Errorf(membership.NotAllowed, "this is for nodes of the cluster")
	}
	answer, err := recovery.Of(n.Node).Answer(ctx, who.Member)
	if err == nil && own.ClusterID == answer.ClusterID && own.Recoveries > answer.Recoveries {
		s.nudge()
	}
	return answer, err
}

// removed is a word from another node that this one may have no record any
// more.
func (s *server) removed(_ membership.Node, _ context.Context, who membership.Caller, _ peer.Leave) error {
	if who.Member == "" {
		return plugin.Errorf(membership.NotAllowed, "this is for nodes of the cluster")
	}
	s.nudge()
	return nil
}

// snapshots saves the datastore as often as the settings say.
func (o Options) snapshots(ctx context.Context) {
	for {
		wait := retry
		err := o.saveDue(ctx, &wait)
		if err != nil {
			o.Log.Error("no snapshot was taken, tried again", "error", err.Error(), "in", wait.String())
		}
		if !o.Sleep(ctx, wait) {
			return
		}
	}
}

// saveDue takes a snapshot where the newest is old enough, and says how long it
// will be until the next.
func (o Options) saveDue(ctx context.Context, wait *time.Duration) error {
	return o.task(ctx, "take a snapshot", func(ctx context.Context, n *operation.Node) error {
		if n.Record.Role != node.ControlPlane || n.Outdated() != nil {
			*wait = checkEvery
			return nil
		}
		r := recovery.Of(n)
		due, interval, err := r.Due()
		if err != nil || interval == 0 {
			*wait = checkEvery // the setting may change
			return err
		}
		if left := due.Sub(o.Now()); left > 0 {
			*wait = min(left, checkEvery)
			return nil
		}
		to, err := r.Recipient()
		if err != nil {
			return err
		}
		info, err := r.Save(ctx, recovery.SaveOptions{Why: "schedule", To: to})
		if err != nil {
			return err
		}
		*wait = min(interval, checkEvery)
		o.Log.Info("took a snapshot", "file", info.File, "bytes", info.Size)
		return nil
	})
}
