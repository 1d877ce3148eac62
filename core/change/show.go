package change

import (
	"bytes"
	"fmt"
	"slices"

	"mk8s.io/mk/sdk/changeset"
)

// Line says what one operation would do, for people and for --output json. It
// never holds a value.
type Line struct {
	Verb   string `json:"verb"`
	Target string `json:"target"`
	// Effect compares with what is there: create, replace, remove, move,
	// nothing; empty where only doing it tells.
	Effect string `json:"effect,omitempty"`
	Why    string `json:"why,omitempty"`
	// Paths are what on this node it changes, relative to the root folder. Where
	// only doing it tells, they are globs of what it may change.
	Paths []string `json:"paths,omitempty"`
}

// Preview says what applying a ChangeSet would do, each operation seeing what
// those before it will have done. It changes nothing and asks nobody. An
// error is one that Apply would give as well.
func (e *Engine) Preview(cs changeset.ChangeSet) ([]Line, error) {
	p := newPlanner(e, ID{})
	lines := make([]Line, 0, len(cs.Operations))
	for _, op := range cs.Operations {
		l := Line{Verb: op.Verb(), Target: op.Target(), Why: op.Why}
		if err := p.describe(&l, op); err != nil {
			return nil, fmt.Errorf("%s %s: %w", l.Verb, l.Target, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// describe fills in what an operation comes down to.
func (p *planner) describe(l *Line, op changeset.Operation) (err error) {
	switch a := op.Action.(type) {
	case *changeset.IssueCertificate, *changeset.SetTrust:
		return p.promise(l, a)
	case *changeset.ActivatePlugin:
		l.Effect, l.Paths = "replace", []string{"plugins/lock.json", "plugins/described/*"}
		return nil
	case *changeset.MovePath:
		l.Paths = []string{a.From, a.To}
	case *changeset.SetArgument:
		l.Paths = ownedPaths(a.Service, a.Owner)
	case *changeset.RemoveArgument:
		l.Paths = ownedPaths(a.Service, a.Owner)
	default:
		if name := target(a); name != "" {
			l.Paths = []string{name}
		}
	}
	if l.Effect, err = p.effect(op); l.Effect == "nothing" {
		l.Paths = nil
	}
	return err
}

// ownedPaths are an args file and, for who owns an option, the list of owners.
func ownedPaths(service, owner string) []string {
	if owner == "" {
		return []string{"args/" + service}
	}
	return []string{"args/" + service, ownersFile}
}

// promise is for what others decide: certificates and trust.
func (p *planner) promise(l *Line, a changeset.Action) error {
	paths, what, err := p.engine.Issuer.Promise(a)
	if err != nil {
		return err
	}
	l.Paths, l.Effect = paths, "create"
	if l.Why == "" {
		l.Why = what
	}
	if len(paths) == 0 {
		return nil
	}
	there, err := p.lookCerts(paths[0])
	if err == nil && there.digest != changeset.Absent {
		l.Effect = "replace"
	}
	return err
}

// effect plans one operation and compares before and after.
func (p *planner) effect(op changeset.Operation) (string, error) {
	switch a := op.Action.(type) {
	case *changeset.SetArgument:
		return p.argumentEffect(a.Service, a.Option, a)
	case *changeset.RemoveArgument:
		return p.argumentEffect(a.Service, a.Option, a)
	}
	name := target(op.Action)
	if name == "" {
		return "", nil
	}
	before, err := p.lookCerts(name)
	if err != nil {
		return "", err
	}
	entries, certs := len(p.entries), len(p.certs)
	if err := p.file(op.Action); err != nil {
		return "", err
	}
	after, err := p.lookCerts(name)
	if err != nil {
		return "", err
	}
	if _, ok := op.Action.(*changeset.MovePath); ok {
		return "move", nil
	}
	switch {
	case len(p.entries) == entries && len(p.certs) == certs:
		return "nothing", nil
	case before.digest == changeset.Absent && after.digest == changeset.Absent:
		return "nothing", nil
	case before.digest == changeset.Absent:
		return "create", nil
	case after.digest == changeset.Absent:
		return "remove", nil
	case len(p.certs) > certs && before.digest == after.digest:
		return "nothing", nil
	}
	return "replace", nil
}

// argumentEffect compares one option of an args file.
func (p *planner) argumentEffect(service, option string, a changeset.Action) (string, error) {
	f, err := p.argsOf(service)
	if err != nil {
		return "", err
	}
	had, before := len(f.All(option)), bytes.Clone(f.Bytes())
	if err := p.argument(a); err != nil {
		return "", err
	}
	has := len(f.All(option))
	switch {
	case bytes.Equal(before, f.Bytes()):
		return "nothing", nil
	case had == 0:
		return "create", nil
	case has == 0:
		return "remove", nil
	}
	return "replace", nil
}

// lookCerts is look, also for what will be in the next generation of certs.
func (p *planner) lookCerts(name string) (found, error) {
	for _, f := range slices.Backward(p.certs) {
		switch {
		case "certs/"+f.Path != name:
			continue
		case f.folder:
			return found{digest: folderDigest, made: true}, nil
		case f.Content == nil:
			return found{digest: changeset.Absent, made: true}, nil
		}
		return found{digest: changeset.DigestOf(f.Content), made: true}, nil
	}
	return p.look(name)
}
