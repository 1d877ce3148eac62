package agent

import (
	"context"
	"errors"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/operation"
)

const (
	// reportEvery is how often a node says that it is there, and what drifted.
	reportEvery = 5 * time.Minute
	// wishLimit is how long it may take until a node is as wanted: it may have
	// to wait until others have restarted.
	wishLimit = 15 * time.Minute
)

// wishes makes the node as the cluster wants it, again and again.
func (o Options) wishes(ctx context.Context) {
	o.again(ctx, requestRetry, o.followWishes, func(err error) {
		if err != nil {
			o.Log.Debug("cannot follow what the cluster wants, tried again", "error", err.Error())
		}
	})
}

// followWishes watches with one connection. What fails is tried again with the
// next change, the next nudge, or after a while.
func (o Options) followWishes(ctx context.Context) error {
	n, err := o.Open()
	if err != nil {
		return err
	}
	if n.Record == nil || n.Record.ClusterID == "" || n.Record.Stopped {
		return n.Close()
	}
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- n.WatchWanted(watched, o.wish, func(err error) { o.Log.Debug("the API server cannot be asked", "error", err.Error()) })
	}()
	pause := reportEvery
	var last *cluster.Report
	for {
		wait := time.NewTimer(pause)
		select {
		case <-o.wanted:
		case <-wait.C:
		case err := <-ended:
			wait.Stop()
			return errors.Join(err, n.Close())
		}
		wait.Stop()
		limited, cancel := context.WithTimeout(ctx, wishLimit)
		err := o.taskWithin(limited, "do what the cluster wants", func(ctx context.Context, n *operation.Node) error {
			report, err := n.FollowWanted(ctx, last)
			if report != nil {
				last = report
			}
			return err
		})
		cancel()
		if pause = reportEvery; err != nil {
			pause = requestRetry
			o.Log.Error("not done, tried again", "error", err.Error(), "in", pause.String())
		} else if last != nil && last.Error != "" {
			o.Log.Error("cannot do what the cluster wants", "generation", last.Tried, "error", last.Error)
		}
	}
}

// wish has what the cluster wants looked at without delay.
func (o Options) wish() {
	select {
	case o.wanted <- struct{}{}:
	default: // it will be
	}
}
