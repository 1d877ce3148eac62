package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"

	"mk8s.io/mk/core/operation"
)

// markerQuiet is how long the marker files must stay as they are before they
// count: who writes one may write another.
const markerQuiet = time.Second

// markers follows what people and tools ask for by the marker files.
func (o Options) markers(ctx context.Context) {
	o.again(ctx, retry, o.watchMarkers, func(err error) {
		o.Log.Error("cannot watch the marker files, tried again", "error", fmt.Sprint(err), "in", retry.String())
	})
}

// watchMarkers looks at the marker files whenever the folder's files come or
// go, and once at the beginning. What cannot be followed is said once.
func (o Options) watchMarkers(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the marker files: %w", err)
	}
	defer w.Close()
	if err := w.Add(o.Markers); err != nil {
		return fmt.Errorf("watch the marker files in %s: %w", o.Markers, err)
	}
	due := time.NewTimer(markerQuiet)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			return fmt.Errorf("watch the marker files: %w", err)
		case e := <-w.Events:
			if e.Has(fsnotify.Create | fsnotify.Remove | fsnotify.Rename) {
				due.Reset(markerQuiet)
			}
		case <-due.C:
			if err := o.task(ctx, "follow the marker files", o.followMarkers); err != nil {
				o.Log.Error("not done", "error", err.Error())
			}
		}
	}
}

func (o Options) followMarkers(ctx context.Context, n *operation.Node) error {
	stop, err := n.FollowRequests(ctx)
	if err != nil || !stop {
		return err
	}
	o.Log.Info("stops the node: a marker file asks for it")
	return o.Stop()
}
