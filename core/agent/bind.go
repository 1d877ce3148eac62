package agent

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/fsnotify/fsnotify"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/operation"
)

// agentFile says where the agent listens.
const agentFile = "cluster-agent"

// moved is done when the args file says that the agent listens elsewhere than
// at bind, or ctx ends. Where the agent lives in the supervisor nobody
// restarts it for that.
func (o Options) moved(ctx context.Context, w *warm, bind string) (context.Context, error) {
	var dir string
	if err := w.with(func(n *operation.Node) error { dir = filepath.Dir(n.Root.Args(agentFile)); return nil }); err != nil {
		return nil, err
	}
	files, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	if err := files.Add(dir); err != nil {
		_ = files.Close() // nothing is watched
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	moved, done := context.WithCancel(ctx)
	go func() {
		defer files.Close() //nolint:errcheck // nothing was written
		defer done()
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-files.Events:
				if filepath.Base(e.Name) != agentFile {
					continue
				}
			case <-files.Errors: // something may have been missed
			}
			now := bind
			err := w.with(func(n *operation.Node) (err error) { now, err = n.AgentBind(); return err })
			if err != nil {
				o.Log.Error("cannot read where the agent listens", "error", err.Error())
			} else if now != bind {
				return
			}
		}
	}()
	return moved, nil
}

// tellBind has the other nodes know the port of this one's agent.
func (o Options) tellBind(ctx context.Context) {
	err := o.task(ctx, "note where the agent listens", func(ctx context.Context, n *operation.Node) error { return n.NoteAgent(ctx) })
	if err != nil && !kube.Silent(err) { // mk start notes it, too
		o.Log.Error("not done", "error", err.Error())
	}
}
