package operation

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mk8s.io/mk/core/service"
)

// counted are services that run, with counts of a service manager's own.
type counted struct {
	service.Controller

	status func(asked int) ([]service.Status, error)
	mu     sync.Mutex
	asked  int
}

func (c *counted) Status(context.Context) ([]service.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.status(c.asked)
}

// TestEndsCountFromTheWait: a service that ended often before a wait began is
// not to blame for it, and one that does so during the wait is.
func TestEndsCountFromTheWait(t *testing.T) {
	t.Parallel()
	n := startedNode(t)
	silent := errors.New("nobody answers")
	for _, c := range []struct {
		name     string
		etcd     func(asked int) int // restarts; below 0 is no answer
		restarts int
		broken   bool
		gaveUp   bool
	}{
		{name: "before", etcd: func(int) int { return 9 }},
		{name: "silent at first", etcd: func(asked int) int { return []int{-1, 9}[min(asked-1, 1)] }},
		{name: "once more", etcd: func(asked int) int { return 9 + min(1, asked-1) }, restarts: 1, broken: true},
		{name: "again and again", etcd: func(asked int) int { return 9 + asked - 1 }, restarts: tooOften, broken: true, gaveUp: true},
		{name: "counted anew", etcd: func(asked int) int { return []int{9, 0, 0}[min(asked-1, 2)] }},
		{name: "anew, and again", etcd: func(asked int) int { return 9*max(0, 2-asked) + max(0, asked-2) }, restarts: tooOften, broken: true, gaveUp: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n.services = &counted{status: func(asked int) ([]service.Status, error) {
					restarts := c.etcd(asked)
					if restarts < 0 {
						return nil, silent
					}
					return []service.Status{{Name: "etcd", State: service.Running, Restarts: restarts}}, nil
				}}
				err := n.patiently(t.Context(), time.Minute, func(ctx context.Context) error {
					<-ctx.Done()
					return ctx.Err()
				})
				why, ok := errors.AsType[*NotReadyError](err)
				if !ok || why.Restarts != c.restarts || why.Broken() != c.broken || (why.Err == nil) != c.gaveUp {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// startedNode is a node that was started, and is open.
func startedNode(t *testing.T) *Node {
	t.Helper()
	c := newNode(t, shippedPlugins(t))
	c.run(t)
	c.Command = "args"
	n, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}
