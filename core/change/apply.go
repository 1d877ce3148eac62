package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// stage writes every new content beside its target and then the record that
// commits to it. The order is what makes a crash safe: the names first, so
// that they can be swept; then the contents; then the commitment.
func (e *Engine) stage(ctx context.Context, id ID, p *plan) (*journal, error) {
	j, err := e.openJournal(id)
	if err != nil {
		return nil, err
	}
	if err := e.stageAll(ctx, j, p); err != nil {
		err = fmt.Errorf("change %s: %w", id, err)
		err = errors.Join(err, e.sweepStaged(stagedNames(p)), j.append(record{Type: recordUndone}))
		j.close()
		return nil, err
	}
	return j, nil
}

func stagedNames(p *plan) []string {
	var names []string
	for _, en := range p.Entries {
		switch en.Kind {
		case kindReplace:
			names = append(names, en.Staged)
		case kindCerts:
			names = append(names, certsFolder(en.Number))
		}
	}
	return names
}

func certsFolder(n int) string { return fmt.Sprintf("var/certs/%d", n) }

func (e *Engine) stageAll(ctx context.Context, j *journal, p *plan) error {
	if err := j.append(record{Type: recordStaging, Schema: journalSchema, Staged: stagedNames(p)}); err != nil {
		return err
	}
	for i, en := range p.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		switch en.Kind {
		case kindFolder:
			err = e.Root.Mkdir(en.Path, folderPerm(en.Mode))
		case kindReplace:
			c := p.content[i]
			err = e.Root.WriteFile(en.Staged, c.data, c.perm)
		case kindCerts:
			err = e.stageCerts(en.Number, p.certs)
		}
		if err != nil {
			return err
		}
	}
	return j.append(record{Type: recordCommit, Entries: p.Entries})
}

func folderPerm(mode fs.FileMode) node.Perm {
	return node.Perm{Mode: mode & fs.ModePerm, UID: -1, GID: -1}
}

// stageCerts builds the next generation: what is there, with what is new.
func (e *Engine) stageCerts(n int, files []File) error {
	dir, err := e.Root.NextCerts(n)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := path.Join(dir, f.Path)
		if f.Content == nil {
			err = e.Root.RemoveAll(name)
		} else {
			err = e.Root.WriteFile(name, f.Content, e.perm(f))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// execute does entries in order. Each looks first whether it is done: after a
// crash all of them are done again.
func (e *Engine) execute(ctx context.Context, j *journal, entries []entry) error {
	for _, en := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if j != nil && j.step != nil {
			j.step("entry "+en.Kind, en.Path+en.Service)
		}
		if err := e.do(ctx, en); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) do(ctx context.Context, en entry) error {
	switch en.Kind {
	case kindFolder:
		return e.Root.MkdirAll(en.Path, folderPerm(en.Mode))
	case kindReplace:
		return e.replace(en)
	case kindRemove:
		if e.exists(en.Path) {
			return e.Root.Rename(en.Path, en.Old)
		}
		return nil
	case kindMove:
		if e.exists(en.Path) {
			return e.Root.Rename(en.Path, en.To)
		}
		return nil
	case kindCerts:
		if err := e.Root.FlipCerts(en.Number); err != nil {
			return err
		}
		return e.Root.TouchCerts(time.Now())
	case kindService:
		return e.control(ctx, en.Service, en.Action)
	}
	return fmt.Errorf("the journal holds %q, which this mk does not know", en.Kind)
}

func (e *Engine) replace(en entry) error {
	if !e.exists(en.Staged) {
		return nil // done before the crash
	}
	if en.Before != changeset.Absent && !e.exists(en.Old) {
		if err := e.Root.LinkOld(en.Path, en.Old); err != nil {
			return err
		}
	}
	return e.Root.Rename(en.Staged, en.Path)
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

func (e *Engine) exists(name string) bool {
	_, err := e.Root.Lstat(name)
	return err == nil
}
