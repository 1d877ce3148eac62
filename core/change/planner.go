package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/sdk/changeset"
)

// ownersFile remembers which owner set which argument, and what was there.
const ownersFile = "args/.owners.json"

// planner turns a ChangeSet into entries. It reads the node and changes
// nothing. Called under the apply lock, so that what it reads holds. Each
// operation sees what those before it will have done: see look.
type planner struct {
	engine   *Engine
	id       ID
	entries  []entry
	certs    []certsFile
	certsAt  int // index of the certs entry + 1
	args     map[string]*args.File
	order    []string // services in the order in which their args were touched
	owners   *args.Owners
	restarts []string
	activate []changeset.ActivatePlugin
}

func newPlanner(e *Engine, id ID) *planner {
	return &planner{engine: e, id: id, args: map[string]*args.File{}}
}

func (p *planner) plan(ctx context.Context, cs changeset.ChangeSet, issued map[int][]File) (*plan, error) {
	running, err := p.running(ctx, cs)
	if err != nil {
		return nil, err
	}
	for i, op := range cs.Operations {
		if err := p.operation(ctx, op, issued[i], running); err != nil {
			return nil, fmt.Errorf("change %s, operation %d: %w", p.id, i+1, err)
		}
	}
	if err := p.flush(ctx); err != nil {
		return nil, fmt.Errorf("change %s: %w", p.id, err)
	}
	if err := p.numberCerts(); err != nil {
		return nil, err
	}
	p.place()
	slices.SortStableFunc(p.restarts, func(a, b string) int { return last(a) - last(b) })
	for _, s := range p.restarts {
		p.add(entry{Kind: kindService, Service: s, Action: changeset.Restart, Ran: running[s]})
	}
	return &plan{entries: p.entries, certs: p.certs}, nil
}

// last puts what may be running this very code behind the others.
func last(service string) int {
	if service == "cluster-agent" || service == "supervisor" {
		return 1
	}
	return 0
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

func (p *planner) operation(ctx context.Context, op changeset.Operation, issued []File, running map[string]bool) error {
	for _, f := range issued {
		if err := p.write(f); err != nil {
			return err
		}
	}
	switch a := op.Action.(type) {
	case *changeset.SetArgument, *changeset.RemoveArgument:
		return p.argument(a)
	case *changeset.ControlService:
		return p.service(a, running)
	case *changeset.ActivatePlugin:
		p.activate = append(p.activate, *a)
		return nil
	}
	return p.file(op.Action)
}

// file plans an operation on a path. Others come down to none.
func (p *planner) file(a changeset.Action) error {
	if err := p.settleArgs(a); err != nil {
		return err
	}
	switch a := a.(type) {
	case *changeset.MakeFolder:
		mode := fs.FileMode(a.Mode)
		if mode == 0 {
			mode = 0o755
		}
		return p.folder(a.Path, mode)
	case *changeset.WriteFile:
		content := a.Content
		if content == nil {
			content = []byte{} // of a File, nil means removal
		}
		return p.write(File{Path: a.Path, Content: content, Mode: fs.FileMode(a.Mode), Secret: a.Secret})
	case *changeset.MovePath:
		return p.move(a.From, a.To)
	case *changeset.RemovePath:
		return p.write(File{Path: a.Path})
	case *changeset.SetLock:
		return p.write(File{Path: "var/lock/" + a.Name, Content: []byte{}, Mode: 0o644})
	case *changeset.ClearLock:
		return p.write(File{Path: "var/lock/" + a.Name})
	}
	return nil
}

// flush adds what is collected over several operations and written once.
func (p *planner) flush(ctx context.Context) error {
	if err := p.flushArgs(); err != nil {
		return err
	}
	if len(p.activate) == 0 {
		return nil
	}
	f, err := p.engine.Plugins.Activate(ctx, p.activate)
	if err != nil {
		return err
	}
	p.activate = nil
	return p.write(f)
}

func (p *planner) service(a *changeset.ControlService, running map[string]bool) error {
	if a.Action == changeset.Restart {
		if !slices.Contains(p.restarts, a.Service) {
			p.restarts = append(p.restarts, a.Service)
		}
		return nil
	}
	if a.Action == changeset.Start {
		// It is to find the arguments that stand before it.
		if err := p.flushArgs(); err != nil {
			return err
		}
	}
	p.add(entry{Kind: kindService, Service: a.Service, Action: a.Action, Ran: running[a.Service]})
	return nil
}

func (p *planner) add(e entry) { p.entries = append(p.entries, e) }

// write adds the replacement of a file, or the removal of a file or folder.
// What is as wanted already is left alone.
func (p *planner) write(f File) error {
	if done, err := p.inCerts(f, false); done || err != nil {
		return err
	}
	there, err := p.look(f.Path)
	if err != nil {
		return err
	}
	if f.Content == nil {
		return p.remove(f.Path, there)
	}
	if there.digest == folderDigest {
		return fmt.Errorf("%s is a folder", f.Path)
	}
	perm := p.engine.perm(f)
	after := changeset.DigestOf(f.Content)
	if there.digest == after && p.modeIs(there, perm) {
		return nil
	}
	if dir := path.Dir(f.Path); dir != "." {
		if err := p.folder(dir, 0o755); err != nil {
			return err
		}
	}
	p.add(entry{
		Kind: kindReplace, Path: f.Path, Mode: perm.Mode, Before: there.digest, After: after,
		data: f.Content, perm: perm,
	})
	return nil
}

func (p *planner) remove(name string, there found) error {
	if there.digest == changeset.Absent {
		return nil
	}
	if p.makes(name) {
		return fmt.Errorf("remove %s: the same change makes it", name)
	}
	p.add(entry{Kind: kindRemove, Path: name, Before: there.digest, After: changeset.Absent})
	return nil
}

// folder adds a folder and those above it that are missing.
func (p *planner) folder(name string, mode fs.FileMode) error {
	if done, err := p.inCerts(File{Path: name, Mode: mode}, true); done || err != nil {
		return err
	}
	there, err := p.look(name)
	if err != nil {
		return err
	}
	switch there.digest {
	case folderDigest:
		return nil
	case changeset.Absent:
	default:
		return fmt.Errorf("%s is in the way: it is not a folder", name)
	}
	if up := path.Dir(name); up != "." {
		if err := p.folder(up, mode); err != nil {
			return err
		}
	}
	p.add(entry{Kind: kindFolder, Path: name, Mode: mode, Before: changeset.Absent, After: folderDigest})
	return nil
}

func (p *planner) move(from, to string) error {
	if within(from, "certs") || within(to, "certs") {
		return fmt.Errorf("move %s to %s: certs/ switches as a whole; write and remove files there", from, to)
	}
	if within(to, from) {
		return fmt.Errorf("move %s to %s: that is inside of it", from, to)
	}
	there, err := p.look(from)
	if err != nil {
		return err
	}
	if there.digest == changeset.Absent {
		return fmt.Errorf("move %s: it is not there", from)
	}
	if there.made || p.makes(from) {
		return fmt.Errorf("move %s: the same change makes it", from)
	}
	target, err := p.look(to)
	if err != nil {
		return err
	}
	if target.digest != changeset.Absent {
		return fmt.Errorf("move %s to %s: something is there already", from, to)
	}
	if up := path.Dir(to); up != "." {
		if err := p.folder(up, 0o755); err != nil {
			return err
		}
	}
	inode, err := p.engine.inode(there.at)
	if err != nil {
		return err
	}
	p.add(entry{Kind: kindMove, Path: from, To: to, Before: there.digest, After: changeset.Absent, Inode: inode})
	return nil
}

// makes reports whether an earlier operation makes a folder at or below name.
// To do such a change again after a crash would be ambiguous.
func (p *planner) makes(name string) bool {
	return slices.ContainsFunc(p.entries, func(e entry) bool { return e.Kind == kindFolder && within(e.Path, name) })
}

// inCerts collects what goes to certs/: into the next generation.
func (p *planner) inCerts(f File, folder bool) (bool, error) {
	if f.Path == "certs" {
		if folder {
			return true, nil
		}
		return true, errors.New("certs is a link to the current generation: write and remove files in it")
	}
	if within(f.Path, "var/certs") {
		return true, fmt.Errorf("%s is of a generation of certs: write and remove files in certs/", f.Path)
	}
	rel, ok := strings.CutPrefix(f.Path, "certs/")
	if !ok {
		return false, nil
	}
	if p.certsAt == 0 {
		p.add(entry{Kind: kindCerts})
		p.certsAt = len(p.entries)
	}
	f.Path = rel
	p.certs = append(p.certs, certsFile{File: f, folder: folder})
	return true, nil
}

// numberCerts numbers the new generation, or drops it where it would be no
// different.
func (p *planner) numberCerts() error {
	if p.certsAt == 0 {
		return nil
	}
	differs := false
	for _, f := range p.certs {
		d, err := p.certsDiffer(f)
		if err != nil {
			return err
		}
		differs = differs || d
	}
	if !differs {
		p.entries, p.certs = slices.Delete(p.entries, p.certsAt-1, p.certsAt), nil
		return nil
	}
	n, err := p.engine.Root.CurrentCerts()
	if err != nil {
		return err
	}
	e := &p.entries[p.certsAt-1]
	e.Previous, e.Number = n, n+1
	return nil
}

func (p *planner) certsDiffer(f certsFile) (bool, error) {
	name := "certs/" + f.Path
	there, err := p.onDisk(name)
	if err != nil {
		return false, err
	}
	switch {
	case f.folder:
		return there.digest != folderDigest, nil
	case f.Content == nil:
		return there.digest != changeset.Absent, nil
	}
	return there.digest != changeset.DigestOf(f.Content) || !p.modeIs(there, p.engine.perm(f.File)), nil
}
