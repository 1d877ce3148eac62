package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
)

// Recover brings every ChangeSet that a killed process left to one of its two
// ends, and removes temporary files. Who takes the operation lock calls it
// first, and nobody else; without work to do it changes nothing.
func (e *Engine) Recover(ctx context.Context) error {
	open, err := e.open()
	if err != nil {
		return err
	}
	litter, err := e.litter()
	if err != nil || len(open)+len(litter) == 0 {
		return err
	}
	return e.holding(ctx, func() error {
		for _, dir := range litter {
			if err := e.Root.Sweep(dir); err != nil {
				return err
			}
		}
		return nil
	})
}

// holding does something under the apply lock, once what a killed process left
// has come to an end.
func (e *Engine) holding(ctx context.Context, do func() error) (err error) {
	l, err := lock.Acquire(ctx, e.Root.Locks(), lock.Apply, e.Owner, e.Waiting)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Release()) }()
	if err := e.recoverLocked(ctx); err != nil {
		return err
	}
	return do()
}

// litter lists the folders where a killed write may have left a temporary
// file that no journal knows, and has. Those that write there hold the
// operation lock or the apply lock.
func (e *Engine) litter() ([]string, error) {
	dirs := []string{".", "args", "credentials", "plugins", "var", "var/lock", "var/journal"}
	ops, err := numbers(e.Root.Path("var/journal"), "")
	if err != nil {
		return nil, err
	}
	for _, n := range ops {
		dirs = append(dirs, JournalDir(n))
	}
	kept, err := e.Root.ReadDir("plugins")
	if err != nil {
		return nil, err
	}
	for _, d := range kept {
		if d.IsDir() && d.Name() != "state" { // that is theirs
			dirs = append(dirs, "plugins/"+d.Name())
		}
	}
	var out []string
	for _, dir := range dirs {
		entries, err := e.Root.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(entries, func(d fs.DirEntry) bool { return litters(d.Name()) }) {
			out = append(out, dir)
		}
	}
	return out, nil
}

// litters tells temporary files of single writes from those that a journal
// knows.
func litters(name string) bool {
	ours := strings.HasPrefix(name, prefix+"old-") || strings.HasPrefix(name, prefix+"staged-")
	return node.IsTemporary(name) && !ours
}

// open lists ChangeSets whose apply phase has no end, in the order in which
// they were begun.
func (e *Engine) open() ([]*history, error) {
	all, err := e.histories()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(h *history) bool { return h.closed() }), nil
}

func (e *Engine) recoverLocked(ctx context.Context) error {
	open, err := e.open()
	if err != nil {
		return err
	}
	for _, h := range open {
		e.progress("finish change " + h.id.String() + ", which was interrupted")
		if err := e.recoverOne(ctx, h); err != nil {
			return fmt.Errorf("finish change %s, which was interrupted: %w", h.id, err)
		}
	}
	return nil
}

func (e *Engine) recoverOne(ctx context.Context, h *history) (err error) {
	j, err := e.openJournal(h)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if err := e.sweepTemporaries(h.staged); err != nil {
		return err
	}
	switch {
	case h.last == "" || h.last == recordStaging:
		if err := e.sweepStaged(h.staged); err != nil {
			return err
		}
		return j.append(record{Type: recordUndone})
	case h.back:
		return e.takeBackAll(ctx, j, h.entries, h.begun, h.taken)
	}
	if begun, err := e.execute(ctx, h.entries); err != nil {
		return errors.Join(err, e.rollBack(ctx, j, h.entries, begun))
	}
	return j.append(record{Type: recordApplied})
}

// sweepTemporaries removes what killed writes have left beside staged names.
func (e *Engine) sweepTemporaries(staged []string) error {
	var done []string
	for _, name := range staged {
		dir := path.Dir(name)
		if slices.Contains(done, dir) {
			continue
		}
		done = append(done, dir)
		if info, err := e.Root.Stat(dir); err != nil || !info.IsDir() {
			continue // gone, or exchanged: nothing of ours is in there
		}
		if err := e.Root.Sweep(dir); err != nil {
			return err
		}
	}
	return nil
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
	all, err := e.histories()
	if err != nil {
		return err
	}
	for _, h := range all {
		for _, en := range h.entries {
			if en.Old == "" || !e.exists(en.Old) {
				continue
			}
			if err := e.Root.RemoveAll(en.Old); err != nil {
				return err
			}
		}
	}
	return e.dropCerts()
}

// dropCerts removes all generations of certs but the current one.
func (e *Engine) dropCerts() error {
	current, err := e.Root.CurrentCerts()
	if err != nil {
		return err
	}
	generations, err := numbers(e.Root.Path("var/certs"), "")
	if err != nil {
		return err
	}
	for _, n := range generations {
		if n == current {
			continue
		}
		if err := e.Root.RemoveAll(certsFolder(n)); err != nil {
			return err
		}
	}
	return nil
}

// closeJournal writes that objects and waits are done too.
func (e *Engine) closeJournal(id ID) (err error) {
	h, err := e.loadJournal(id)
	if err != nil {
		return err
	}
	j, err := e.openJournal(h)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	return j.append(record{Type: recordEnd})
}

// JournalDir is the folder of an operation's journal, relative to the root.
func JournalDir(operation int) string {
	return "var/journal/" + strconv.Itoa(operation)
}
