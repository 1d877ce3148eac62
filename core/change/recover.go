package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/sdk/changeset"
)

// Recover brings every ChangeSet that a killed process left to one of its two
// ends. Who takes the operation lock calls it first; without work to do it
// changes nothing.
func (e *Engine) Recover(ctx context.Context) error {
	open, err := e.open()
	if err != nil || len(open) == 0 {
		return err
	}
	l, err := lock.Acquire(ctx, e.Root.Locks(), lock.Apply, e.Owner, e.Waiting)
	if err != nil {
		return err
	}
	defer l.Release()
	return e.recoverLocked(ctx)
}

// open lists ChangeSets whose apply phase has no end.
func (e *Engine) open() ([]ID, error) {
	ids, err := e.journals()
	if err != nil {
		return nil, err
	}
	var open []ID
	for _, id := range ids {
		h, err := e.loadJournal(id)
		if err != nil {
			return nil, err
		}
		switch h.last {
		case recordApplied, recordUndone, recordEnd:
		default:
			open = append(open, id)
		}
	}
	return open, nil
}

func (e *Engine) recoverLocked(ctx context.Context) error {
	open, err := e.open()
	if err != nil {
		return err
	}
	for _, id := range open {
		if err := e.recoverOne(ctx, id); err != nil {
			return fmt.Errorf("finish change %s, which was interrupted: %w", id, err)
		}
	}
	return nil
}

func (e *Engine) recoverOne(ctx context.Context, id ID) error {
	h, err := e.loadJournal(id)
	if err != nil {
		return err
	}
	j, err := e.openJournal(id)
	if err != nil {
		return err
	}
	defer j.close()
	if h.last != recordCommit {
		if err := e.sweepStaged(h.staged); err != nil {
			return err
		}
		return j.append(record{Type: recordUndone})
	}
	e.progress("finish change " + id.String() + ", which was interrupted")
	if err := e.execute(ctx, j, h.entries); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		return errors.Join(err, e.rollBack(undo, j, &plan{Entries: h.entries}))
	}
	return j.append(record{Type: recordApplied})
}

// rollBack takes entries back in reverse and brings services to where they
// were. It goes on past what cannot be taken back and names it.
func (e *Engine) rollBack(ctx context.Context, j *journal, p *plan) error {
	var errs []error
	for _, en := range slices.Backward(p.Entries) {
		if err := e.takeBack(en); err != nil {
			errs = append(errs, fmt.Errorf("take back %s %s: %w", en.Kind, en.Path, err))
		}
	}
	for _, en := range p.Entries {
		if en.Kind != kindService {
			continue
		}
		if err := e.serviceBack(ctx, en); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return j.append(record{Type: recordUndone})
}

func (e *Engine) takeBack(en entry) error {
	switch en.Kind {
	case kindReplace:
		if e.exists(en.Staged) {
			return e.Root.Remove(en.Staged) // it had not come to that
		}
		if en.Before == changeset.Absent {
			return e.Root.RemoveAll(en.Path)
		}
		if e.exists(en.Old) {
			return e.Root.Rename(en.Old, en.Path)
		}
	case kindRemove:
		if e.exists(en.Old) {
			return e.Root.Rename(en.Old, en.Path)
		}
	case kindMove:
		if e.exists(en.To) && !e.exists(en.Path) {
			return e.Root.Rename(en.To, en.Path)
		}
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

func (e *Engine) serviceBack(ctx context.Context, en entry) error {
	switch {
	case en.Action == changeset.Enable:
		return e.Services.Boot(ctx, false, en.Service)
	case en.Action == changeset.Disable:
		return e.Services.Boot(ctx, true, en.Service)
	case en.Ran:
		return e.Services.Restart(ctx, en.Service)
	}
	return e.Services.Stop(ctx, en.Service)
}

func (e *Engine) sweepStaged(names []string) error {
	var errs []error
	for _, n := range names {
		errs = append(errs, e.Root.RemoveAll(n))
	}
	return errors.Join(errs...)
}

// sweepOld removes what the changes before kept of what they replaced: from
// here on they cannot be undone.
func (e *Engine) sweepOld() error {
	ids, err := e.journals()
	if err != nil {
		return err
	}
	for _, id := range ids {
		h, err := e.loadJournal(id)
		if err != nil {
			return err
		}
		for _, en := range h.entries {
			if en.Old == "" || !e.exists(en.Old) {
				continue
			}
			if err := e.Root.RemoveAll(en.Old); err != nil {
				return err
			}
		}
	}
	return e.Root.DropCerts()
}

// closeJournal writes the end and forgets what only an open change needs.
func (e *Engine) closeJournal(id ID) error {
	if _, err := os.Stat(e.Root.Path(journalName(id))); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	j, err := e.openJournal(id)
	if err != nil {
		return err
	}
	defer j.close()
	return j.append(record{Type: recordEnd})
}

// ErrNotLast says that a change cannot be undone any more.
var ErrNotLast = errors.New("what it replaced is no longer kept, or was changed since")

// Undo takes the newest ChangeSet back, as long as everything is still as it
// left it.
func (e *Engine) Undo(ctx context.Context, id ID) error {
	l, err := lock.Acquire(ctx, e.Root.Locks(), lock.Apply, e.Owner, e.Waiting)
	if err != nil {
		return err
	}
	defer l.Release()
	h, err := e.loadJournal(id)
	if err != nil {
		return err
	}
	if h.last != recordApplied && h.last != recordEnd {
		return fmt.Errorf("undo change %s: it was not applied: %w", id, ErrNotLast)
	}
	for _, en := range h.entries {
		if err := e.undoable(en); err != nil {
			return fmt.Errorf("undo change %s: %s: %w", id, path.Join(en.Path, en.Service), err)
		}
	}
	j, err := e.openJournal(id)
	if err != nil {
		return err
	}
	defer j.close()
	return e.rollBack(ctx, j, &plan{Entries: h.entries})
}

func (e *Engine) undoable(en entry) error {
	switch en.Kind {
	case kindReplace, kindRemove:
		now, err := e.Root.Digest(en.Path)
		if err != nil {
			return err
		}
		if now != en.After || (en.Before != changeset.Absent && !e.exists(en.Old)) {
			return ErrNotLast
		}
	case kindCerts:
		now, err := e.Root.CurrentCerts()
		if err != nil {
			return err
		}
		if now != en.Number {
			return ErrNotLast
		}
	}
	return nil
}
