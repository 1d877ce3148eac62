package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// ErrStale says that something is not as the plugin saw it: nothing was
// applied and the plugin is to be asked again.
var ErrStale = errors.New("it changed meanwhile")

// File is a file to be written as part of a change. Content is nil for one to
// be removed.
type File struct {
	Path    string // relative to the root folder
	Content []byte
	Mode    fs.FileMode
	Secret  bool
}

// Issuer makes keys, has them certified and gives the files that hold them.
// Paths below certs/ switch together, as one generation of that folder.
type Issuer interface {
	Issue(ctx context.Context, operationID string, wanted []changeset.IssueCertificate) ([]File, error)
	Trust(a changeset.SetTrust) ([]File, error)
	// Promise says which files IssueCertificate or SetTrust would write, and, in
	// words, what into them. It asks nobody.
	Promise(a changeset.Action) (paths []string, what string, err error)
}

// Services controls the node's services. A start or restart takes the
// arguments that are on disk then.
type Services interface {
	Start(ctx context.Context, names ...string) error
	Stop(ctx context.Context, names ...string) error
	Restart(ctx context.Context, names ...string) error
	// Running reports which of the services are meant to run.
	Running(ctx context.Context) (map[string]bool, error)
	// Boot sets whether services come back with the machine.
	Boot(ctx context.Context, on bool, names ...string) error
}

// Objects changes what is not on this node. Every method looks first what is
// already so, because it is repeated after a crash.
type Objects interface {
	ApplyManifests(ctx context.Context, m changeset.ApplyManifests) error
	DeleteManifests(ctx context.Context, m changeset.DeleteManifests) error
	ChangeMember(ctx context.Context, m changeset.ChangeMember) error
	// Want makes operations of scope cluster part of what the cluster wants.
	Want(ctx context.Context, ops []changeset.Operation) error
	Wait(ctx context.Context, w changeset.Wait, progress func(string)) error
}

// Plugins computes the lock file that makes plugins active, all at once.
type Plugins interface {
	Activate(ctx context.Context, all []changeset.ActivatePlugin) (File, error)
}

// Engine applies ChangeSets to one node. Its fields are set once; the ones
// that a ChangeSet does not need may be nil.
type Engine struct {
	Root     *node.Root
	Owner    lock.Owner // shown to who waits for the apply lock
	Issuer   Issuer
	Services Services
	Objects  Objects
	Plugins  Plugins
	// Progress is told what is being done; nil for nobody.
	Progress func(string)
	// Waiting is told who holds the apply lock, if that takes a while.
	Waiting func(lock.Owner)
	// Step is called before each record, and before each entry is done or taken
	// back; crash tests end the process in it. Nil in production.
	Step func(op, path string)
}

// ID is the number of a ChangeSet: the operation's, and its own within it.
type ID struct{ Operation, Change int }

// String is as users see it: 118.1.
func (id ID) String() string { return fmt.Sprintf("%d.%d", id.Operation, id.Change) }

// Apply applies a ChangeSet. When it returns an error the node is as it was
// before, except where the error names what could not be taken back, which
// Recover tries again, and where it says that objects or a wait failed: those
// come after everything on the node and are repeated by applying again.
func (e *Engine) Apply(ctx context.Context, id ID, operationID string, cs changeset.ChangeSet) error {
	if err := cs.Validate(); err != nil {
		return fmt.Errorf("change %s: %w", id, err)
	}
	issued, err := e.prepare(ctx, operationID, cs)
	if err != nil {
		return err
	}
	if err := e.applyLocked(ctx, id, cs, issued); err != nil {
		return err
	}
	return e.finish(ctx, id, cs)
}

// prepare makes the certificates of a ChangeSet in one batch.
func (e *Engine) prepare(ctx context.Context, operationID string, cs changeset.ChangeSet) (map[int][]File, error) {
	var wanted []changeset.IssueCertificate
	first := -1
	issued := map[int][]File{}
	for i, op := range cs.Operations {
		switch a := op.Action.(type) {
		case *changeset.IssueCertificate:
			if first < 0 {
				first = i
			}
			wanted = append(wanted, *a)
		case *changeset.SetTrust:
			files, err := e.Issuer.Trust(*a)
			if err != nil {
				return nil, fmt.Errorf("trust of %s: %w", a.Authority, err)
			}
			issued[i] = files
		}
	}
	if len(wanted) == 0 {
		return issued, nil
	}
	files, err := e.Issuer.Issue(ctx, operationID, wanted)
	if err != nil {
		return nil, err
	}
	issued[first] = files
	return issued, nil
}

// applyLocked does the apply phase.
func (e *Engine) applyLocked(ctx context.Context, id ID, cs changeset.ChangeSet, issued map[int][]File) error {
	return e.holding(ctx, func() (err error) {
		if err := e.expected(cs); err != nil {
			return err
		}
		plan, err := newPlanner(e, id).plan(ctx, cs, issued)
		if err != nil {
			return err
		}
		seq, err := e.nextSeq()
		if err != nil {
			return err
		}
		if err := e.sweepOld(); err != nil {
			return err
		}
		j, err := e.stage(ctx, id, seq, plan)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, j.close()) }()
		if begun, err := e.execute(ctx, plan.entries); err != nil {
			return errors.Join(fmt.Errorf("change %s: %w", id, err), e.rollBack(ctx, j, plan.entries, begun))
		}
		return j.append(record{Type: recordApplied})
	})
}

// expected compares what operations expect with what is there.
func (e *Engine) expected(cs changeset.ChangeSet) error {
	for _, op := range cs.Operations {
		path := target(op.Action)
		if op.Expects == "" || path == "" {
			continue
		}
		got, err := e.Root.Digest(path)
		if err != nil {
			return fmt.Errorf("look at %s: %w", path, err)
		}
		if got != op.Expects {
			return fmt.Errorf("%s is %s, %s was expected: %w", path, got, op.Expects, ErrStale)
		}
	}
	return nil
}

// target is the path whose digest Expects speaks of.
func target(a changeset.Action) string {
	switch a := a.(type) {
	case *changeset.WriteFile:
		return a.Path
	case *changeset.MakeFolder:
		return a.Path
	case *changeset.MovePath:
		return a.From
	case *changeset.RemovePath:
		return a.Path
	case *changeset.SetArgument:
		return "args/" + a.Service
	case *changeset.RemoveArgument:
		return "args/" + a.Service
	case *changeset.SetLock:
		return "var/lock/" + a.Name
	case *changeset.ClearLock:
		return "var/lock/" + a.Name
	}
	return ""
}

// finish does the phases objects and wait.
func (e *Engine) finish(ctx context.Context, id ID, cs changeset.ChangeSet) error {
	var wanted []changeset.Operation
	for _, op := range cs.Operations {
		if op.Scope == changeset.ScopeCluster {
			wanted = append(wanted, op)
			continue
		}
		if err := e.object(ctx, op); err != nil {
			return fmt.Errorf("change %s: %w", id, err)
		}
	}
	if len(wanted) > 0 {
		if err := e.Objects.Want(ctx, wanted); err != nil {
			return fmt.Errorf("change %s: %w", id, err)
		}
	}
	for _, op := range cs.Operations {
		if w, ok := op.Action.(*changeset.Wait); ok {
			if err := e.Objects.Wait(ctx, *w, e.progress); err != nil {
				return fmt.Errorf("change %s: %w", id, err)
			}
		}
	}
	return e.closeJournal(id)
}

func (e *Engine) object(ctx context.Context, op changeset.Operation) error {
	switch a := op.Action.(type) {
	case *changeset.ApplyManifests:
		e.progress("apply the objects of " + a.Inventory)
		return e.Objects.ApplyManifests(ctx, *a)
	case *changeset.DeleteManifests:
		e.progress("delete the objects of " + a.Inventory)
		return e.Objects.DeleteManifests(ctx, *a)
	case *changeset.ChangeMember:
		return e.Objects.ChangeMember(ctx, *a)
	}
	return nil
}

func (e *Engine) progress(s string) {
	if e.Progress != nil {
		e.Progress(s)
	}
}
