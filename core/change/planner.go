package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// ownersFile remembers which owner set which argument, and what was there.
const ownersFile = "args/.owners.json"

// argsFile is one args file while its operations are collected.
type argsFile struct {
	file   *args.File
	secret bool
}

// planner turns a ChangeSet into entries. It reads the node and changes
// nothing. Called under the apply lock, so that what it reads holds.
type planner struct {
	engine   *Engine
	id       ID
	out      plan
	args     map[string]*argsFile
	order    []string // services in the order in which their args were touched
	owners   *args.Owners
	restarts []string
	activate []changeset.ActivatePlugin
	certsAt  int // index of the certs entry + 1
}

func (p *planner) plan(ctx context.Context, cs changeset.ChangeSet, issued map[int][]File) (*plan, error) {
	p.out.content = map[int]content{}
	running, err := p.running(ctx, cs)
	if err != nil {
		return nil, err
	}
	for i, op := range cs.Operations {
		if err := p.operation(op, issued[i], running); err != nil {
			return nil, fmt.Errorf("change %s, operation %d: %w", p.id, i+1, err)
		}
	}
	if err := errors.Join(p.flushArgs(), p.flushPlugins(ctx)); err != nil {
		return nil, err
	}
	if err := p.certs(); err != nil {
		return nil, err
	}
	for _, s := range p.restarts {
		p.add(entry{Kind: kindService, Service: s, Action: changeset.Restart, Ran: running[s]})
	}
	return &p.out, nil
}

// running asks only where the answer is needed: asking costs a call to the
// service manager.
func (p *planner) running(ctx context.Context, cs changeset.ChangeSet) (map[string]bool, error) {
	for _, op := range cs.Operations {
		if _, ok := op.Action.(*changeset.ControlService); ok {
			running, err := p.engine.Services.Running(ctx)
			if err != nil {
				return nil, fmt.Errorf("ask which services run: %w", err)
			}
			return running, nil
		}
	}
	return nil, nil
}

func (p *planner) operation(op changeset.Operation, issued []File, running map[string]bool) error {
	for _, f := range issued {
		if err := p.write(f); err != nil {
			return err
		}
	}
	switch a := op.Action.(type) {
	case *changeset.MakeFolder:
		mode := fs.FileMode(a.Mode)
		if mode == 0 {
			mode = 0o755
		}
		return p.folder(a.Path, mode)
	case *changeset.WriteFile:
		return p.write(File{Path: a.Path, Content: a.Content, Mode: fs.FileMode(a.Mode), Secret: a.Secret})
	case *changeset.MovePath:
		return p.move(a.From, a.To)
	case *changeset.RemovePath:
		return p.write(File{Path: a.Path})
	case *changeset.SetArgument, *changeset.RemoveArgument:
		return p.argument(a)
	case *changeset.SetLock:
		return p.write(File{Path: "var/lock/" + a.Name, Content: []byte{}, Mode: 0o644})
	case *changeset.ClearLock:
		return p.write(File{Path: "var/lock/" + a.Name})
	case *changeset.ControlService:
		p.service(a, running)
	case *changeset.ActivatePlugin:
		p.activate = append(p.activate, *a)
	}
	return nil
}

// flushPlugins writes the lock file once for all activations.
func (p *planner) flushPlugins(ctx context.Context) error {
	if len(p.activate) == 0 {
		return nil
	}
	f, err := p.engine.Plugins.Activate(ctx, p.activate)
	if err != nil {
		return err
	}
	return p.write(f)
}

func (p *planner) service(a *changeset.ControlService, running map[string]bool) {
	if a.Action == changeset.Restart {
		for _, s := range p.restarts {
			if s == a.Service {
				return
			}
		}
		p.restarts = append(p.restarts, a.Service)
		return
	}

	p.add(entry{Kind: kindService, Service: a.Service, Action: a.Action, Ran: running[a.Service]})
}

func (p *planner) add(e entry) int {
	p.out.Entries = append(p.out.Entries, e)
	return len(p.out.Entries) - 1
}

// write adds the replacement or removal of a file. A file that is as wanted
// already is left alone.
func (p *planner) write(f File) error {
	if rel, ok := strings.CutPrefix(f.Path, "certs/"); ok {
		p.placeCerts()
		f.Path = rel
		p.out.certs = append(p.out.certs, f)
		return nil
	}
	before, err := p.engine.Root.Digest(f.Path)
	if err != nil {
		return fmt.Errorf("look at %s: %w", f.Path, err)
	}
	n := len(p.out.Entries)
	old := beside(f.Path, "old", p.id, n)
	if f.Content == nil {
		if before != changeset.Absent {
			p.add(entry{Kind: kindRemove, Path: f.Path, Old: old, Before: before, After: changeset.Absent})
		}
		return nil
	}
	perm := p.engine.perm(f)
	after := changeset.DigestOf(f.Content)
	if before == after && p.engine.modeIs(f.Path, perm.Mode) {
		return nil
	}
	if dir := path.Dir(f.Path); dir != "." {
		if err := p.folder(dir, 0o755); err != nil {
			return err
		}
		n = len(p.out.Entries)
		old = beside(f.Path, "old", p.id, n)
	}
	p.add(entry{
		Kind: kindReplace, Path: f.Path, Staged: beside(f.Path, "staged", p.id, n), Old: old,
		Mode: perm.Mode, Before: before, After: after,
	})
	p.out.content[n] = content{data: f.Content, perm: perm}
	return nil
}

// folder adds a folder and those above it that are missing. Folders that
// files of this ChangeSet go to are made before anything is staged: staging
// needs them, and an empty folder harms nobody.
func (p *planner) folder(name string, mode fs.FileMode) error {
	info, err := p.engine.Root.Stat(name)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is in the way: it is not a folder", name)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range p.out.Entries {
		if e.Kind == kindFolder && e.Path == name {
			return nil
		}
	}
	if up := path.Dir(name); up != "." {
		if err := p.folder(up, mode); err != nil {
			return err
		}
	}
	p.add(entry{Kind: kindFolder, Path: name, Mode: mode, Before: changeset.Absent})
	return nil
}

func (p *planner) move(from, to string) error {
	before, err := p.engine.Root.Digest(from)
	if err != nil {
		return fmt.Errorf("look at %s: %w", from, err)
	}
	if before == changeset.Absent {
		return fmt.Errorf("move %s: it is not there", from)
	}
	if _, err := p.engine.Root.Lstat(to); err == nil {
		return fmt.Errorf("move %s to %s: something is there already", from, to)
	}
	p.add(entry{Kind: kindMove, Path: from, To: to, Before: before})
	return nil
}

func (p *planner) placeCerts() {
	if p.certsAt == 0 {
		p.certsAt = p.add(entry{Kind: kindCerts}) + 1
	}
}

// certs numbers the new generation.
func (p *planner) certs() error {
	if p.certsAt == 0 {
		return nil
	}
	n, err := p.engine.Root.CurrentCerts()
	if err != nil {
		return err
	}
	e := &p.out.Entries[p.certsAt-1]
	e.Previous, e.Number = n, n+1
	return nil
}

// perm is the mode and owner of a file: what others must not read belongs to
// root and the admin group alone.
func (e *Engine) perm(f File) node.Perm {
	switch {
	case f.Mode == 0 && f.Secret:
		return e.Root.Secret()
	case f.Mode == 0:
		return e.Root.Public()
	case f.Secret:
		return node.Perm{Mode: f.Mode &^ 0o007, UID: -1, GID: -1}
	}
	return node.Perm{Mode: f.Mode & fs.ModePerm, UID: -1, GID: -1}
}

func (e *Engine) modeIs(name string, mode fs.FileMode) bool {
	info, err := e.Root.Lstat(name)
	return err == nil && info.Mode().Perm() == mode
}
