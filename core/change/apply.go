package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// stage writes every new content to where its target will be renamed from,
// and then the record that commits to it. The order is what makes a crash
// safe: the names first, so that they can be swept; then the contents; then
// the commitment. On an error nothing is left of it but a closed journal.
func (e *Engine) stage(ctx context.Context, id ID, seq int, p *plan) (*journal, error) {
	j, err := e.createJournal(id)
	if err != nil {
		return nil, fmt.Errorf("change %s: %w", id, err)
	}
	if err := e.stageAll(ctx, j, seq, p); err != nil {
		err = fmt.Errorf("change %s: %w", id, err)
		if swept := e.sweepStaged(stagedNames(p.entries)); swept != nil {
			// The journal stays open: whoever comes next sweeps them.
			return nil, errors.Join(err, fmt.Errorf("remove what was prepared: %w", swept), j.close())
		}
		// Without this record it is swept again, which finds nothing.
		return nil, errors.Join(err, j.append(record{Type: recordUndone}), j.close())
	}
	return j, nil
}

func certsFolder(n int) string { return fmt.Sprintf("var/certs/%d", n) }

func (e *Engine) stageAll(ctx context.Context, j *journal, seq int, p *plan) error {
	commit := record{Type: recordCommit, Entries: p.entries}
	if err := j.reserve(commit); err != nil {
		return err
	}
	if err := j.append(record{Type: recordStaging, Schema: journalSchema, Seq: seq, Staged: stagedNames(p.entries)}); err != nil {
		return err
	}
	for _, en := range p.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		switch en.Kind {
		case kindReplace:
			err = e.Root.WriteFile(en.Staged, en.data, en.perm)
		case kindCerts:
			err = e.stageCerts(en.Number, p.certs)
		}
		if err != nil {
			return err
		}
	}
	return j.append(commit)
}

func folderPerm(mode fs.FileMode) node.Perm {
	return node.Perm{Mode: mode & fs.ModePerm, UID: -1, GID: -1}
}

// stageCerts builds the next generation: what is there, with what is new.
func (e *Engine) stageCerts(n int, files []certsFile) error {
	dir, err := e.Root.NextCerts(n)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := path.Join(dir, f.Path)
		switch {
		case f.folder:
			err = e.makeFolder(name, f.Mode)
		case f.Content == nil:
			err = e.Root.RemoveAll(name)
		default:
			if err = e.makeFolder(path.Dir(name), 0o755); err == nil {
				err = e.Root.WriteFile(name, f.Content, e.perm(f.File))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeFolder leaves one that is there as it is.
func (e *Engine) makeFolder(name string, mode fs.FileMode) error {
	if e.exists(name) {
		return nil
	}
	return e.Root.MkdirAll(name, folderPerm(mode))
}

// execute does entries in order and returns how many it began. Each looks
// first whether it is done: after a crash all of them are done again.
func (e *Engine) execute(ctx context.Context, entries []entry) (int, error) {
	for i, en := range entries {
		if err := ctx.Err(); err != nil {
			return i, err
		}
		e.step("entry "+en.Kind, en.name())
		if err := e.do(ctx, en); err != nil {
			return i + 1, err
		}
	}
	return len(entries), nil
}

func (e *Engine) do(ctx context.Context, en entry) error {
	switch en.Kind {
	case kindFolder:
		return e.Root.MkdirAll(en.Path, folderPerm(en.Mode))
	case kindReplace:
		return e.replace(en)
	case kindRemove:
		if !e.exists(en.Old) && e.exists(en.Path) {
			return e.Root.Rename(en.Path, en.Old)
		}
		return nil
	case kindMove:
		return e.rename(en.Path, en.To, en.Inode)
	case kindCerts:
		return e.Root.FlipCerts(en.Number)
	case kindService:
		return e.control(ctx, en.Service, en.Action)
	}
	return fmt.Errorf("the journal holds %q, which this mk does not know", en.Kind)
}

func (e *Engine) replace(en entry) error {
	if !e.exists(en.Staged) {
		return nil // done before the crash
	}
	if en.Old != "" && !e.exists(en.Old) {
		if err := e.Root.LinkOld(en.Path, en.Old); err != nil {
			return err
		}
	}
	return e.Root.Rename(en.Staged, en.Path)
}

// rename renames what has an inode, unless that was done.
func (e *Engine) rename(from, to string, inode uint64) error {
	now, err := e.inode(from)
	if err != nil || now != inode {
		return err
	}
	return e.Root.Rename(from, to)
}

func (e *Engine) control(ctx context.Context, service string, a changeset.ServiceAction) error {
	switch a {
	case changeset.Start:
		e.progress("start " + service)
		return e.Services.Start(ctx, service)
	case changeset.Stop:
		e.progress("stop " + service)
		return e.Services.Stop(ctx, service)
	case changeset.Restart:
		e.progress("restart " + service)
		return e.Services.Restart(ctx, service)
	case changeset.Enable:
		return e.Services.Boot(ctx, true, service)
	case changeset.Disable:
		return e.Services.Boot(ctx, false, service)
	}
	return fmt.Errorf("service action %q is unknown", a)
}

// exists reports whether something has a name. What cannot be looked at counts
// as there, and fails when it is changed.
func (e *Engine) exists(name string) bool {
	_, err := e.Root.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

func (e *Engine) step(op, name string) {
	if e.Step != nil {
		e.Step(op, name)
	}
}
