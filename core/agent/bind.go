package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fsnotify/fsnotify"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/operation"
)

// agentFile says where the agent listens.
const agentFile = "cluster-agent"

// moved is done when the args file says that the agent listens elsewhere than
// at bind, or ctx ends. Where the agent lives in the supervisor nobody
// restarts it for that. An agent that cannot follow the file listens all the
// same.
func (o Options) moved(ctx context.Context, w *warm, bind string) context.Context {
	files, err := watchArgs(w)
	if err != nil {
		o.Log.Error("does not follow where it is to listen: restart it after a change", "error", err.Error())
		return ctx
	}
	moved, done := context.WithCancel(ctx)
	go func() {
		defer files.Close() //nolint:errcheck // nothing was written
		defer done()
		for { // it may have been edited before it was watched
			now := bind
			err := w.with(func(n *operation.Node) (err error) { now, err = n.AgentBind(); return err })
			if err != nil {
				o.Log.Error("cannot read where the agent listens", "error", err.Error())
			} else if now != bind {
				return
			}
			if !edited(ctx, files) {
				return
			}
		}
	}()
	return moved
}

// watchArgs watches the folder of the args file: an editor replaces the file.
func watchArgs(w *warm) (*fsnotify.Watcher, error) {
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
	return files, nil
}

// edited waits until the args file may have changed; it is false when ctx ends.
func edited(ctx context.Context, files *fsnotify.Watcher) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case e := <-files.Events:
			if filepath.Base(e.Name) == agentFile {
				return true
			}
		case <-files.Errors: // something may have been missed
			return true
		}
	}
}

// tellBind has the other nodes know the port of this one's agent: when a
// machine starts, the agent listens before its API server answers.
func (o Options) tellBind(ctx context.Context) {
	for said := false; ; {
		err := o.task(ctx, "note where the agent listens", func(ctx context.Context, n *operation.Node) error { return n.NoteAgent(ctx) })
		if err == nil || ctx.Err() != nil {
			return
		}
		if !said && !kube.Silent(err) && !errors.Is(err, cluster.ErrChanged) {
			said = true
			o.Log.Error("not done, tried again", "error", err.Error(), "in", requestRetry.String())
		}
		if !o.Sleep(ctx, requestRetry) {
			return
		}
	}
}
