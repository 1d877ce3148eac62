package operation

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/service/process"
)

// readyTimeout bounds the wait for a node where nobody named another.
const readyTimeout = 10 * time.Minute

// systemManifests are the objects of mk's own: its namespace and what its
// programs may do.
//
//go:embed system.yaml
var systemManifests []byte

// BecomeReady waits for the API server, puts mk's own objects and images in
// place, and waits until the node is Ready.
func (n *Node) BecomeReady(ctx context.Context, r *Run) error {
	c, err := n.Kube()
	if err != nil {
		return err
	}
	return n.patiently(ctx, readyTimeout, func(ctx context.Context) error {
		err := r.Step(ctx, "wait for the API server", func(ctx context.Context) error { return c.WaitReady(ctx, n.detail) })
		if err != nil {
			return err
		}
		// Until the API server answers the processors have enough to do; while the
		// node waits for its network they have not.
		return n.withImages(ctx, func(ctx context.Context) error {
			if n.Record.Role == node.ControlPlane {
				err := r.Step(ctx, "write what the cluster is", func(ctx context.Context) error {
					if err := n.writeSystem(ctx, c); err != nil {
						return err
					}
					return n.writeMember(ctx)
				})
				if err != nil {
					return err
				}
			}
			return r.Step(ctx, "wait for the node", func(ctx context.Context) error {
				if err := n.waitNode(ctx, c); err != nil {
					return err
				}
				return n.takePods(ctx)
			})
		})
	})
}

// patiently waits for what do waits for, no longer than limit, and not where
// that is of no use; its error names the service that is to blame.
func (n *Node) patiently(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, ends, stop := n.watchEnds(ctx)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := do(ctx); err != nil {
		return n.whyNotReady(ctx, err, ends)
	}
	return nil
}

// WhileUp does something unless a service of this node is started again and
// again meanwhile: then the error names that. So it does where the disk is full:
// who waits for others may wait for what this node's own member cannot write.
func (n *Node) WhileUp(ctx context.Context, do func(context.Context) error) error {
	ctx, _, stop := n.watchEnds(ctx)
	defer stop()
	err := do(ctx)
	if err == nil {
		return nil
	}
	if why := whyEnded(ctx); why != nil {
		return why
	}
	if full := logfile.FullDisk(n.Root.Dir()); full != "" {
		return fmt.Errorf("%s (%v): %w", full, err, unix.ENOSPC) //nolint:errorlint // what it waited for is not why
	}
	return err
}

// whyEnded is why a context that watchEnds has made ended before its time, or
// nil.
func whyEnded(ctx context.Context) error {
	why := context.Cause(ctx)
	_, broken := errors.AsType[*NotReadyError](why)
	_, outdated := errors.AsType[*OutdatedError](why)
	if broken || outdated {
		return why
	}
	return nil
}

// watchEnds ends a context where a service does not stay up.
func (n *Node) watchEnds(ctx context.Context) (watched context.Context, seen *ends, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	seen = &ends{from: map[string]int{}}
	_, _ = n.ended(watched, seen) // a service manager that does not answer yet counts from its first answer
	go n.giveUp(watched, cancel, seen)
	return watched, seen, func() { cancel(nil) }
}

// ends counts how often services have ended since a wait began: what a service
// manager counts begins when a person last started that service.
type ends struct {
	mu   sync.Mutex
	from map[string]int
}

// statusLimit bounds one question for the state of the services.
const statusLimit = 3 * time.Second

// ended is how the services are, the restarts of each less what they were when
// it was first seen. A count that is lower than that was begun anew.
func (n *Node) ended(ctx context.Context, ends *ends) ([]service.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	list, err := n.services.Status(ctx)
	ends.mu.Lock()
	defer ends.mu.Unlock()
	for i := range list {
		s := &list[i]
		from, seen := ends.from[s.Name]
		if !seen {
			from = s.Restarts
		} else if s.Restarts < from {
			from = 0
		}
		ends.from[s.Name] = from
		s.Restarts -= from
	}
	return list, err
}

// withImages imports the images meanwhile; what fails first is the error.
func (n *Node) withImages(ctx context.Context, do func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.importImages(ctx) })
	group.Go(func() error { return do(ctx) })
	return group.Wait()
}

// AwaitNode imports the images and waits until this node is Ready in a cluster
// that others have made.
func (n *Node) AwaitNode(ctx context.Context) error {
	c, err := n.Kube()
	if err != nil {
		return err
	}
	return n.patiently(ctx, readyTimeout, func(ctx context.Context) error {
		// As in BecomeReady: until the kubelet has registered the processors have
		// enough to do.
		err := c.WaitReady(ctx, n.detail)
		if err == nil {
			err = c.WaitRegistered(ctx, n.Record.Name, n.detail)
		}
		if err == nil {
			err = n.withImages(ctx, func(ctx context.Context) error { return n.waitNode(ctx, c) })
		}
		return err
	})
}

// waitNode waits until this node's kubelet has said since it started that the
// node is Ready.
func (n *Node) waitNode(ctx context.Context, c *kube.Client) error {
	list, err := n.services.Status(ctx)
	if err != nil {
		return err
	}
	var since time.Time
	for _, s := range list {
		if s.Name == defaults.Kubelite && s.PID > 0 {
			since, _ = process.Started(s.PID) // one that is gone starts again, and is Ready when it says so
		}
	}
	return c.WaitNode(ctx, n.Record.Name, since, n.detail)
}

const (
	// lookEvery is how often services are looked at while waiting.
	lookEvery = 2 * time.Second
	// tooOften is how many restarts during the wait show that waiting is of no use.
	tooOften = 5
)

// giveUp ends the wait for a node of which a service is started again and
// again: it would not become ready by waiting.
func (n *Node) giveUp(ctx context.Context, stop context.CancelCauseFunc, ends *ends) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := n.Outdated(); err != nil {
			stop(err)
			return
		}
		list, err := n.ended(ctx, ends)
		if err != nil {
			continue
		}
		for _, s := range list {
			if s.Restarts >= tooOften {
				stop(&NotReadyError{Service: s.Name, State: string(s.State), Restarts: s.Restarts, LastError: s.LastError})
				return
			}
		}
	}
}

// NotReadyError says which service keeps the node from being Ready.
type NotReadyError struct {
	Service   string
	State     string
	Restarts  int // since the wait began
	LastError string
	Err       error
}

// Error names the service and its last error.
func (e *NotReadyError) Error() string {
	s := fmt.Sprintf("not ready: %s is %s", e.Service, e.State)
	if e.Restarts > 0 {
		s += fmt.Sprintf(", started again %d times", e.Restarts)
	}
	if !e.Broken() && e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.LastError != "" {
		s += ": " + e.LastError
	}
	return s
}

// Broken reports whether the service does not stay up. One that does may wait
// for other nodes.
func (e *NotReadyError) Broken() bool { return e.State != string(service.Running) || e.Restarts > 0 }

// Unwrap gives what was waited for.
func (e *NotReadyError) Unwrap() error { return e.Err }

// whyNotReady finds the service that is to blame.
func (n *Node) whyNotReady(ctx context.Context, err error, ends *ends) error {
	if why := whyEnded(ctx); why != nil {
		return why
	}
	list, statusErr := n.ended(context.WithoutCancel(ctx), ends)
	if statusErr != nil {
		return errors.Join(err, statusErr)
	}
	for _, s := range list {
		if s.State != "running" || s.Restarts > 0 {
			return &NotReadyError{Service: s.Name, State: string(s.State), Restarts: s.Restarts, LastError: s.LastError, Err: err}
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// All run, and yet it is not ready: what Kubernetes said last may tell why.
	return &NotReadyError{Service: defaults.Kubelite, State: string(service.Running), LastError: logfile.LastError(n.Root.Logs(defaults.Kubelite), 0), Err: err}
}

// writeSystem applies mk's own objects and, once, generation 1 of what the
// cluster wants.
func (n *Node) writeSystem(ctx context.Context, c *kube.Client) error {
	// The namespace comes first: inventories are kept in it.
	if err := c.MakeNamespace(ctx, kube.SystemNamespace); err != nil {
		return err
	}
	objects, err := kube.ParseManifests(systemManifests, "system.yaml")
	if err != nil {
		return err
	}
	if _, err := c.Apply(ctx, kube.ApplyRequest{Inventory: "mk-system", Objects: objects, Prune: true}); err != nil {
		return err
	}
	store := cluster.Wishes{Client: c}
	w, err := store.Get(ctx)
	if err != nil || w.Generation > 0 {
		return err
	}
	_, err = store.Change(ctx, n.Now(), n.by(), func(*cluster.Wanted) error { return nil })
	return err
}

// importImages gives containerd the images that came with mk. What it has
// already costs one question.
func (n *Node) importImages(ctx context.Context) error {
	files, want, err := n.images()
	if err != nil {
		return err
	}
	if have, err := n.Root.ReadFile(imagesDone); err == nil && string(have) == want {
		return nil
	}
	for _, f := range slices.Sorted(slices.Values(files)) {
		n.detail("import " + filepath.Base(f))
		cmd := exec.CommandContext(ctx, n.Programs.Bin("ctr"), "--address", n.Defaults().ContainerdSocket(),
			"--namespace", "k8s.io", "images", "import", "--local", f)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("import %s: %w: %s", f, err, strings.TrimSpace(string(out)))
		}
	}
	return n.Root.WriteFile(imagesDone, []byte(want), n.Root.Public())
}

// imagesDone holds the stamp of the images that were imported.
const imagesDone = "var/images.imported"

// images are the files of the images that ship with mk, and their stamp.
func (n *Node) images() (files []string, stamp string, err error) {
	files, err = filepath.Glob(filepath.Join(n.Programs.Images(), "*.tar"))
	if err != nil {
		return nil, "", fmt.Errorf("find the images that ship with mk: %w", err)
	}
	return files, imagesStamp(files), nil
}

// imagesStamp changes when a file of images does.
func imagesStamp(files []string) string {
	var b strings.Builder
	for _, f := range slices.Sorted(slices.Values(files)) {
		if info, err := os.Stat(f); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", filepath.Base(f), info.Size(), info.ModTime().Unix())
		}
	}
	return b.String()
}
