package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"mk8s.io/mk/core/timer"
)

// watch tells when the node's certificates were switched, by a person or by
// another task: the new ones may end sooner than those that were looked at. And
// it tells when somebody edits the names that the server's should have.
type watch struct {
	w      *fsnotify.Watcher
	link   string        // to the certificates
	folder string        // where it leads, which is watched as well
	settle time.Duration // until the change that switched them should be over
}

// template is what a person edits beside the certificates.
const template = "csr.conf.template"

// look begins to watch the node's folder, once.
func (w *watch) look(dir string) error {
	if w.w == nil {
		made, err := fsnotify.NewBufferedWatcher(64)
		if err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		if err := made.Add(dir); err != nil {
			_ = made.Close() // nothing is watched
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		w.w, w.link = made, filepath.Join(dir, "certs")
	}
	w.follow()
	return nil
}

// follow watches the folder in which the certificates are now. A folder that
// is not there yet, or not any more, is found when the link is replaced.
func (w *watch) follow() {
	if w.w == nil {
		return
	}
	now, err := filepath.EvalSymlinks(w.link)
	if err != nil || now == w.folder || w.w.Add(now) != nil {
		return
	}
	if w.folder != "" {
		_ = w.w.Remove(w.folder) // gone where the folder is
	}
	w.folder = now
}

// forget drops what was seen until now.
func (w *watch) forget() {
	for w.w != nil {
		select {
		case <-w.w.Events:
		case <-w.w.Errors:
		default:
			return
		}
	}
}

// sleep sleeps for d, or until the certificates are switched, or their names
// edited, and all has settled. It reports whether to go on.
func (w *watch) sleep(ctx context.Context, d time.Duration, long func(context.Context, time.Duration) bool) bool {
	asleep, wake := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait() // it must not take what the next sleep waits for
	defer wake()
	w.follow()
	if w.w != nil {
		wg.Go(func() { w.wait(asleep, wake) })
	}
	return long(asleep, d) || (asleep.Err() != nil && ctx.Err() == nil && timer.Wait(ctx, w.settle))
}

// wait wakes the sleeper when the link to the certificates is replaced, or
// their names are edited.
func (w *watch) wait(ctx context.Context, wake func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.w.Events:
			if !ok {
				return
			}
			if e.Name == w.link || filepath.Base(e.Name) == template {
				wake()
				return
			}
		case _, ok := <-w.w.Errors:
			if !ok {
				return
			}
		}
	}
}

func (w *watch) close() {
	if w.w != nil {
		_ = w.w.Close() // nothing was written
	}
}
