package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// scheduler is the scheduler; run may be called once.
type scheduler struct {
	opts  *options.Options
	check startCheck
}

func newScheduler() *scheduler {
	return &scheduler{opts: options.NewOptions(), check: startCheck{component: "kube-scheduler"}}
}

func (s *scheduler) run(ctx context.Context) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	config, sched, err := app.Setup(own, s.opts)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	s.check.started.Store(true)
	if config.LeaderElection == nil {
		defer context.AfterFunc(ctx, cancel)()
		return app.Run(own, config, sched)
	}

	lock := &handOver{Interface: config.LeaderElection.Lock, released: make(chan struct{})}
	config.LeaderElection.Lock = lock
	// A scheduler that waits for the lease ends the process with status 0 as soon as its context ends, whatever else is
	// still being stopped. It holds nothing, so its context stays whole and it waits until the process goes.
	leading, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		defer stop()
		done <- app.Run(leading, config, sched)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if !lock.held.Load() {
		return nil
	}
	lock.stopping.Store(true)
	stop()
	<-lock.released
	return nil
}

// handOver is the scheduler's lock. A leader that stops gives the lease up, says so as an event, and then ends the
// process; this lock tells the first and keeps the last from happening, so that another node's scheduler takes over at
// once and this process still stops in order.
type handOver struct {
	resourcelock.Interface

	held, stopping atomic.Bool
	released       chan struct{}
}

// RecordEvent is called by the leader election when it has won the lease, and again after it has lost or released it.
func (h *handOver) RecordEvent(event string) {
	h.Interface.RecordEvent(event)
	if event == "became leader" {
		h.held.Store(true)
		return
	}
	h.held.Store(false)
	if h.stopping.Load() {
		close(h.released)
		select {} // what would follow is the end of the process
	}
}
