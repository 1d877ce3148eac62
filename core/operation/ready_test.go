package operation

import (
	"context"
	"errors"
	"os/exec"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/process"
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

// TestWhileUp: what somebody waits for ends where a service does not stay up,
// and not for one that started again once, or that is not running yet.
func TestWhileUp(t *testing.T) {
	t.Parallel()
	n := startedNode(t)
	waited := errors.New("waited for nothing")
	for name, c := range map[string]struct {
		restarts func(asked int) int
		gaveUp   bool
	}{
		"it stays up":     {func(int) int { return 3 }, false},
		"once more":       {func(asked int) int { return 3 + min(1, asked-1) }, false},
		"again and again": {func(asked int) int { return 3 + asked - 1 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n.services = &counted{status: func(asked int) ([]service.Status, error) {
					return []service.Status{
						{Name: "etcd", State: service.Running, Restarts: c.restarts(asked), LastError: "no room"},
						{Name: "kubelite", State: service.Stopped},
					}, nil
				}}
				err := n.WhileUp(t.Context(), func(ctx context.Context) error {
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-time.After(time.Minute):
						return waited
					}
				})
				why, ok := errors.AsType[*NotReadyError](err)
				if ok != c.gaveUp || !ok && !errors.Is(err, waited) || ok && (why.Service != "etcd" || why.LastError != "no room") {
					t.Errorf("%v", err)
				}
				if err := n.WhileUp(t.Context(), func(context.Context) error { return nil }); err != nil {
					t.Errorf("what is done at once: %v", err)
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

// TestSteadySinceTheAPIServer: what started after the API server was ready is
// not what the wait was for, and one that was there before has stayed up when
// the API server has been ready for a while.
func TestSteadySinceTheAPIServer(t *testing.T) {
	t.Parallel()
	n := startedNode(t)
	late := exec.CommandContext(t.Context(), "sleep", "60")
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = late.Process.Kill(), late.Wait() }()
	started, err := process.Started(late.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		ready time.Time
		asked int // how often that it is not running yet is said
		again bool
		took  time.Duration // at least
	}{
		{name: "before the API server", ready: started.Add(time.Millisecond), took: steadyFor},
		{name: "after the API server", ready: started.Add(-time.Second), again: true},
		{name: "after a wait", ready: started.Add(-time.Second), asked: 2, again: true},
		{name: "nobody asks the API server", took: steadyFor},
	} {
		n.services = &counted{status: func(asked int) ([]service.Status, error) {
			s := service.Status{Name: "kubelite", State: service.Running, PID: late.Process.Pid}
			if asked <= c.asked {
				s.State, s.PID = service.Backoff, 0
			}
			return []service.Status{s, {Name: "etcd", State: service.Backoff}}, nil
		}}
		err := n.steady(t.Context(), []string{"kubelite"}, c.ready)
		if errors.Is(err, errAgain) != c.again || (err != nil) != c.again {
			t.Errorf("%s: %v", c.name, err)
		}
		if took := time.Since(started); took < c.took {
			t.Errorf("%s: answered %s after its start", c.name, took)
		}
	}
}
