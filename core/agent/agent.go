// Package agent is what mk does on a node while nobody types: it renews
// certificates when two thirds of their life are over, follows the node's
// addresses, signs the cluster's CertificateSigningRequests through the active
// certs plugin, and, where systemd keeps the services up, rotates their logs.
//
// Guaranteed: it uses no processor while nothing happens, and little memory; a
// plugin is started for a task and ended after it; a task that fails is tried
// again, with a pause, and named in the log. Not guaranteed: that it does
// anything while another mk holds the operation lock; then it waits.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/netinfo"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/timer"
)

const (
	// quiet is how long addresses must stay as they are before they count.
	quiet = 5 * time.Second
	// checkEvery bounds how long a change of the clock goes unnoticed.
	checkEvery = 6 * time.Hour
	retry      = 10 * time.Minute
	taskLimit  = 5 * time.Minute
	joinsEvery = 10 * time.Minute
	// followEvery is how long a member of the datastore that went may be named
	// to an API server that has others, too.
	followEvery = time.Minute
)

// Options are what the agent needs.
type Options struct {
	wanted chan struct{} // holds one while what the cluster wants is to be looked at

	// Open opens the node for one task.
	Open func() (*operation.Node, error)
	Log  hclog.Logger
	Now  func() time.Time
	// Logs is the folder of the services' logs, which are rotated. It is empty
	// where the embedded supervisor does that.
	Logs string
	// Markers is the folder of the marker files; they are not followed where it
	// is empty. Stop begins to stop the node from outside this process, which
	// that ends, too.
	Markers string
	Stop    func() error
	// Sleep waits and reports whether to go on; nil waits as long as it is
	// told, or until its context ends. Tests let years pass in it.
	Sleep func(ctx context.Context, d time.Duration) bool

	worked chan struct{} // holds one while there was work since the last rest
	nudged chan struct{} // holds one while another node has something to say
}

// Run works until ctx ends.
func Run(ctx context.Context, o Options) error {
	if o.Sleep == nil {
		o.Sleep = timer.Wait
	}
	o.worked, o.nudged = make(chan struct{}, 1), make(chan struct{}, 1)
	o.wanted = make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { o.wishes(ctx) })
	wg.Go(func() { o.rests(ctx) })
	wg.Go(func() { o.renewals(ctx) })
	wg.Go(func() { o.requests(ctx) })
	wg.Go(func() { o.addresses(ctx) })
	wg.Go(func() { o.serve(ctx) })
	wg.Go(func() { o.joins(ctx) })
	wg.Go(func() { o.looks(ctx) })
	wg.Go(func() { o.snapshots(ctx) })
	if o.Markers != "" {
		wg.Go(func() { o.markers(ctx) })
	}
	wg.Go(func() { o.datastore(ctx) })
	if o.Logs != "" {
		wg.Go(func() {
			logfile.Watch(ctx, o.Logs, logfile.Limits{}, func(err error) { o.Log.Error("logs are not rotated", "error", err.Error()) })
		})
	}
	wg.Wait()
	return nil
}

// task opens the node for one piece of work.
func (o Options) task(ctx context.Context, what string, do func(context.Context, *operation.Node) error) error {
	ctx, cancel := context.WithTimeout(ctx, taskLimit)
	defer cancel()
	return o.taskWithin(ctx, what, do)
}

// taskWithin is task where ctx has the time that it needs.
func (o Options) taskWithin(ctx context.Context, what string, do func(context.Context, *operation.Node) error) error {
	defer o.note()
	n, err := o.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n.Record == nil || n.Record.ClusterID == "" || n.Record.Stopped {
		return n.Close()
	}
	err = do(ctx, n)
	if err = errors.Join(err, n.Close()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// renewals keeps what the node shows to others current, and sleeps until
// something is due.
func (o Options) renewals(ctx context.Context) {
	w := &watch{settle: quiet}
	defer w.close()
	// Where systemd started the services, nobody has shown it yet.
	if err := o.task(ctx, "show what the kernel was like", func(_ context.Context, n *operation.Node) error { return n.ShowKernel() }); err != nil {
		o.Log.Debug("other nodes may set the kernel back under this one", "error", err.Error())
	}
	for {
		wait := retry // of a node that is just starting: it does not count as one yet
		err := o.task(ctx, "renew certificates", func(ctx context.Context, n *operation.Node) (err error) {
			if err := w.look(n.Root.Dir()); err != nil {
				return err
			}
			wait, err = o.renew(ctx, n, w)
			return err
		})
		if err != nil {
			o.Log.Error("not done, tried again", "error", err.Error(), "in", retry.String())
			wait = retry
		}
		if !w.sleep(ctx, wait, o.Sleep) {
			return
		}
	}
}

// renew renews what is due, and says how long nothing will be. Addresses are
// looked at too: they may have changed while no agent watched.
func (o Options) renew(ctx context.Context, n *operation.Node, w *watch) (time.Duration, error) {
	set, err := netinfo.Addresses(ctx)
	if err != nil {
		return 0, err
	}
	if err := n.FollowAddresses(ctx, set); err != nil {
		return 0, err
	}
	renewed, err := n.Renew(ctx, operation.RenewOptions{Due: true})
	if err != nil {
		return 0, err
	}
	if len(renewed) > 0 {
		o.Log.Info("renewed certificates", "profiles", renewed)
	}
	aged, err := n.RestartAged(ctx)
	if err != nil {
		return 0, err
	}
	if len(aged) > 0 {
		o.Log.Info("restarted before a certificate in its memory ends", "services", aged)
	}
	w.forget() // what was switched until here is looked at now
	next, err := n.NextRenewal()
	if err != nil {
		return 0, err
	}
	return min(max(next.Sub(o.Now()), time.Minute), checkEvery), nil
}

// joins takes back the joins of nodes that are silent.
func (o Options) joins(ctx context.Context) {
	for {
		wait := joinsEvery
		err := o.task(ctx, "look after joins", func(ctx context.Context, n *operation.Node) error {
			if n.Record.Role != node.ControlPlane {
				return nil
			}
			next, err := membership.Of(n).ReapJoins(ctx)
			if !next.IsZero() {
				wait = min(max(next.Sub(o.Now()), time.Minute), joinsEvery)
			}
			return err
		})
		if err != nil {
			wait = time.Minute
			o.Log.Debug("cannot look after joins, tried again", "error", err.Error())
		}
		if !timer.Wait(ctx, wait) {
			return
		}
	}
}

// datastore follows the datastore's members on a node that has none. A node
// that has one wakes up for nothing.
func (o Options) datastore(ctx context.Context) {
	for {
		follows, looked := false, false
		err := o.task(ctx, "follow the datastore", func(ctx context.Context, n *operation.Node) error {
			looked = true
			if follows = n.Record.NoVote; !follows {
				return nil
			}
			changed, err := membership.Of(n).FollowDatastore(ctx)
			if changed {
				o.Log.Info("the datastore has other members")
			}
			return err
		})
		if err != nil {
			o.Log.Error("not done, tried again", "error", err.Error(), "in", followEvery.String())
		} else if looked && !follows {
			return
		}
		if !timer.Wait(ctx, followEvery) {
			return
		}
	}
}

// addresses follows the addresses of this node.
func (o Options) addresses(ctx context.Context) {
	o.again(ctx, retry, func(ctx context.Context) error {
		return netinfo.Watch(ctx, quiet, func(set []netip.Addr) { o.follow(ctx, set) })
	}, func(err error) {
		o.Log.Error("cannot watch addresses, tried again", "error", fmt.Sprint(err), "in", retry.String())
	})
}

// again does what should not end until the context does, and again after a
// pause; ended hears why it ended all the same.
func (o Options) again(ctx context.Context, pause time.Duration, do func(context.Context) error, ended func(error)) {
	for {
		err := do(ctx)
		if ctx.Err() != nil {
			return
		}
		ended(err)
		if !o.Sleep(ctx, pause) {
			return
		}
	}
}

// follow takes addresses over. What cannot be done now is tried again with
// those that the node has then.
func (o Options) follow(ctx context.Context, set []netip.Addr) {
	for {
		err := o.task(ctx, "take over new addresses", func(ctx context.Context, n *operation.Node) error {
			return n.FollowAddresses(ctx, set)
		})
		if err == nil {
			return
		}
		o.Log.Error("not done, tried again", "error", err.Error(), "in", retry.String())
		if !o.Sleep(ctx, retry) {
			return
		}
		if now, err := netinfo.Addresses(ctx); err == nil {
			set = now
		}
	}
}
