package operation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/process"
	"mk8s.io/mk/core/timer"
)

const (
	// steadyFor is how long a service must have run to count as up: one that
	// refuses what it reads ends before.
	steadyFor = 2 * time.Second
	// settledFor is how long the API server must have been ready: what starts
	// after it may yet refuse what it reads, which ends both.
	settledFor = time.Second
)

// restarting notes that services were made to start anew.
func (n *Node) restarting(names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		if !slices.Contains(n.restarted, name) {
			n.restarted = append(n.restarted, name)
		}
	}
}

// AwaitWell waits until the node works again with the services that have been
// started anew since it was opened; where none was it asks nobody. The API
// server must be ready, and the kubelet must have said since it started that
// the node is. It holds no lock: what keeps a node from working can be taken
// back meanwhile. Its error is as that of Start.
func (n *Node) AwaitWell(ctx context.Context) error {
	n.mu.Lock()
	names := slices.Clone(n.restarted)
	n.mu.Unlock()
	kubernetes := slices.ContainsFunc(names, func(s string) bool {
		return s == defaults.Kubelite || s == defaults.Etcd || s == defaults.Containerd || s == defaults.Proxy
	})
	if len(names) == 0 {
		return nil
	}
	return n.patiently(ctx, readyTimeout, func(ctx context.Context) error {
		if !kubernetes {
			return n.show(ctx, "wait for the services", func(ctx context.Context) error { return n.steady(ctx, names, time.Time{}) })
		}
		c, err := n.Kube()
		if err != nil {
			return err
		}
		err = n.show(ctx, "wait for the API server", func(ctx context.Context) error { return c.WaitReady(ctx, n.detail) })
		if err != nil {
			return err
		}
		return n.show(ctx, "wait for the node", func(ctx context.Context) error {
			return n.upWith(ctx, c, names, func(ctx context.Context) error { return n.waitNode(ctx, c) })
		})
	})
}

// upWith waits until the API server is ready and services have stayed up since
// it was, and for what wait waits for.
func (n *Node) upWith(ctx context.Context, c *kube.Client, names []string, wait func(context.Context) error) error {
	for {
		if err := c.WaitReady(ctx, n.detail); err != nil {
			return err
		}
		ready := time.Now()
		if err := wait(ctx); err != nil {
			return err
		}
		if err := n.steady(ctx, names, ready); !errors.Is(err, errAgain) {
			return err
		}
	}
}

// errAgain says that a service has started anew.
var errAgain = errors.New("started again")

// show does something that belongs to no operation, and shows it as a step.
func (n *Node) show(ctx context.Context, step string, do func(context.Context) error) error {
	began := n.Now()
	n.Progress.Begin(step)
	err := do(ctx)
	n.Progress.End(step, n.Now().Sub(began), err)
	return err
}

// steady waits until services run that have not ended since they started.
// Where ready is set it is when the API server was: who started later was there
// for nobody to wait for, which is errAgain.
func (n *Node) steady(ctx context.Context, names []string, ready time.Time) error {
	for {
		list, err := n.services.Status(ctx)
		if err != nil {
			return err
		}
		waiting := ""
		for _, s := range list {
			if !slices.Contains(names, s.Name) {
				continue
			}
			since, err := process.Started(s.PID)
			switch up := s.State == service.Running && err == nil; {
			case up && !ready.IsZero() && since.After(ready):
				return fmt.Errorf("%s: %w", s.Name, errAgain)
			case !up || time.Since(since) < steadyFor || time.Since(ready) < settledFor:
				waiting = s.Name
			}
		}
		if waiting == "" {
			return nil
		}
		n.detail("waiting for " + waiting)
		if !timer.Wait(ctx, 200*time.Millisecond) {
			return fmt.Errorf("wait for %s: %w", waiting, ctx.Err())
		}
	}
}
