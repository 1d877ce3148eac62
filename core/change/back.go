package change

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"mk8s.io/mk/sdk/changeset"
)

// undoTimeout bounds what is done after the caller's own deadline has passed.
const undoTimeout = 2 * time.Minute

// rollBack takes back the entries that were begun, in reverse, and brings
// services to where they were. It says so in the journal first: from there on
// whoever comes next goes on backwards.
func (e *Engine) rollBack(ctx context.Context, j *journal, entries []entry, begun int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := j.append(record{Type: recordBack, Begun: begun}); err != nil {
		return fmt.Errorf("nothing was taken back, the next command that changes something goes on: %w", err)
	}
	return e.takeBackAll(ctx, j, entries, begun, nil)
}

// takeBackAll goes on past what cannot be taken back and names it; then the
// journal stays open, and whoever comes next tries again. A service that
// cannot be brought back is named only: trying for ever would let nobody
// repair it.
func (e *Engine) takeBackAll(ctx context.Context, j *journal, entries []entry, begun int, taken map[int]bool) error {
	var files, services []error
	if err := e.sweepStaged(stagedNames(entries[begun:])); err != nil {
		files = append(files, fmt.Errorf("remove what was prepared: %w", err))
	}
	for i, en := range slices.Backward(entries[:begun]) {
		if taken[i] {
			continue
		}
		e.step("take back "+en.Kind, en.name())
		if en.Kind == kindService {
			services = append(services, e.unstart(ctx, entries[:i], en))
			continue
		}
		err := e.takeBack(en)
		if err == nil {
			err = j.append(record{Type: recordTook, Entry: i})
		}
		if err != nil {
			files = append(files, fmt.Errorf("take back %s of %s: %w", en.Kind, en.name(), err))
		}
	}
	if len(files) > 0 {
		return errors.Join(append(files, services...)...)
	}
	services = append(services, e.servicesBack(ctx, entries[:begun]))
	return errors.Join(append(services, j.append(record{Type: recordUndone}))...)
}

// takeBack undoes one entry that was begun. Every entry before it is done and
// every one after it was taken back.
func (e *Engine) takeBack(en entry) error {
	switch en.Kind {
	case kindReplace:
		switch {
		case e.exists(en.Staged): // it had not come to that
			if en.Old != "" {
				if err := e.Root.RemoveAll(en.Old); err != nil {
					return err
				}
			}
			return e.Root.Remove(en.Staged)
		case en.Old == "":
			return e.Root.RemoveAll(en.Path)
		}
		return e.oldBack(en)
	case kindRemove:
		return e.oldBack(en)
	case kindMove:
		return e.rename(en.To, en.Path, en.Inode)
	case kindCerts:
		if en.Previous > 0 {
			if err := e.Root.FlipCerts(en.Previous); err != nil {
				return err
			}
		}
		return e.Root.RemoveAll(certsFolder(en.Number))
	case kindFolder:
		// Only if nothing else has been put there since.
		if entries, err := e.Root.ReadDir(en.Path); err == nil && len(entries) == 0 {
			return e.Root.Remove(en.Path)
		}
	}
	return nil
}

// oldBack puts back what was kept. If it is gone, it must be where it was: a
// kill came before the record of that.
func (e *Engine) oldBack(en entry) error {
	if e.exists(en.Old) {
		return e.Root.Rename(en.Old, en.Path)
	}
	if en.Before == folderDigest && e.exists(en.Path) {
		return nil
	}
	now, err := e.Root.Digest(en.Path)
	if err == nil && now != en.Before {
		err = errors.New("what was kept of it is gone")
	}
	return err
}

// unstart stops what an entry started, before the files under it change back.
func (e *Engine) unstart(ctx context.Context, before []entry, en entry) error {
	stopped := !en.Ran
	for _, b := range before {
		stopped = stopped || (b.Service == en.Service && b.Action == changeset.Stop)
	}
	if en.Action != changeset.Start || !stopped {
		return nil
	}
	if err := e.Services.Stop(ctx, en.Service); err != nil {
		return fmt.Errorf("stop %s again: %w", en.Service, err)
	}
	return nil
}

// servicesBack has every service run that ran, with the files that are back.
// What did not run was stopped by unstart, or never started.
func (e *Engine) servicesBack(ctx context.Context, entries []entry) error {
	var errs []error
	var seen []string
	for _, en := range entries {
		var err error
		switch {
		case en.Kind != kindService:
			continue
		case en.Action == changeset.Enable:
			err = e.Services.Boot(ctx, false, en.Service)
		case en.Action == changeset.Disable:
			err = e.Services.Boot(ctx, true, en.Service)
		case slices.Contains(seen, en.Service):
			continue
		case en.Ran:
			seen = append(seen, en.Service)
			// A restart leaves down what is not meant to run, and a start leaves
			// alone what runs.
			err = errors.Join(e.Services.Restart(ctx, en.Service), e.Services.Start(ctx, en.Service))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("bring service %s back: %w", en.Service, err))
		}
	}
	return errors.Join(errs...)
}

// ErrNotLast says that a change cannot be undone any more.
var ErrNotLast = errors.New("what it replaced is no longer kept, or was changed since")

// Undo takes the ChangeSet back that was begun last, as long as everything is
// still as it left it; otherwise the error is ErrNotLast and nothing was
// changed. Again is no error. What it did to objects stays.
func (e *Engine) Undo(ctx context.Context, id ID) error {
	return e.holding(ctx, func() (err error) {
		all, err := e.histories()
		if err != nil {
			return err
		}
		if len(all) == 0 || all[len(all)-1].id != id || !all[len(all)-1].applied {
			return fmt.Errorf("undo change %s: it is not the newest that was applied: %w", id, ErrNotLast)
		}
		h := all[len(all)-1]
		if h.last == recordUndone {
			return nil
		}
		if err := e.undoable(h.entries); err != nil {
			return fmt.Errorf("undo change %s: %w", id, err)
		}
		j, err := e.openJournal(h)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, j.close()) }()
		return e.rollBack(ctx, j, h.entries, len(h.entries))
	})
}

// Applied lists the ChangeSets of an operation that were applied, also those
// that were undone since, oldest first.
func (e *Engine) Applied(operation int) ([]ID, error) {
	all, err := e.histories()
	if err != nil {
		return nil, err
	}
	var out []ID
	for _, h := range all {
		if h.id.Operation == operation && h.applied {
			out = append(out, h.id)
		}
	}
	return out, nil
}

// undoable compares what the entries left, all of them together, with what is
// there.
func (e *Engine) undoable(entries []entry) error {
	want := map[string]string{}
	for _, en := range entries {
		if en.Old != "" && !e.exists(en.Old) {
			return fmt.Errorf("%s: %w", en.name(), ErrNotLast)
		}
		switch en.Kind {
		case kindReplace:
			want[en.Path] = en.After
		case kindRemove:
			forget(want, en.Path)
			want[en.Path] = changeset.Absent
		case kindFolder:
			delete(want, en.Path)
		case kindMove:
			carry(want, en.Path, en.To)
			want[en.Path] = changeset.Absent
		case kindCerts:
			now, err := e.Root.CurrentCerts()
			if err != nil {
				return err
			}
			if now != en.Number || (en.Previous > 0 && !e.exists(certsFolder(en.Previous))) {
				return fmt.Errorf("the certificates: %w", ErrNotLast)
			}
		}
	}
	for name, digest := range want {
		now, err := e.Root.Digest(name)
		if err != nil {
			return err
		}
		if now != digest {
			return fmt.Errorf("%s: %w", name, ErrNotLast)
		}
	}
	return nil
}

// carry takes expectations along with what was moved.
func carry(want map[string]string, from, to string) {
	forget(want, to)
	for name, digest := range maps.Clone(want) {
		if within(name, from) {
			delete(want, name)
			want[to+name[len(from):]] = digest
		}
	}
}

func forget(want map[string]string, dir string) {
	for name := range want {
		if within(name, dir) {
			delete(want, name)
		}
	}
}
