package change

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// Refusal says that an operation is not covered by what a plugin was granted.
type Refusal struct {
	Verb   string
	Target string
	Grant  string // the grant that would be needed
}

// Error names the operation and the grant that it lacks.
func (r *Refusal) Error() string {
	if r.Grant == "" {
		return fmt.Sprintf("%s %s is never a plugin's to do", r.Verb, r.Target)
	}
	return fmt.Sprintf("%s %s needs the grant %s", r.Verb, r.Target, r.Grant)
}

// core are paths that no plugin changes, whatever its manifest says: they are
// how the core knows what it did and whom it trusts.
func core() []string {
	return []string{"plugins", "var/journal", "var/lock", "var/certs", "node.json", "settings.yaml", ownersFile}
}

// forbidden reports whether to write p would change what is the core's alone.
func forbidden(p string) bool {
	if slices.ContainsFunc(core(), func(c string) bool { return within(p, c) }) {
		return true
	}
	return slices.ContainsFunc(strings.Split(p, "/"), node.IsTemporary)
}

// Hidden reports whether a path is never a plugin's to read: it holds what
// other plugins keep, or the secrets of past changes.
func Hidden(p string) bool { return within(p, "plugins") || within(p, "var/journal") }

// forbiddenTree is forbidden for what concerns all below p, too.
func forbiddenTree(p string) bool {
	return p == "certs" || forbidden(p) || slices.ContainsFunc(core(), func(c string) bool { return within(c, p) })
}

// Check reports every operation that the grants do not cover. Who may write a
// path may also move or remove it with all it holds. Objects are
// judged by classify, which knows their kinds; nil skips them.
func Check(cs changeset.ChangeSet, g plugin.Grants, objects func(manifests []byte, g []plugin.ObjectGrant) error) error {
	var errs []error
	for i, op := range cs.Operations {
		if err := checkAction(op.Action, g, objects); err != nil {
			errs = append(errs, fmt.Errorf("operation %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

func checkAction(a changeset.Action, g plugin.Grants, objects func([]byte, []plugin.ObjectGrant) error) error {
	switch a := a.(type) {
	case *changeset.MakeFolder:
		return paths("make folder", forbidden, g, a.Path)
	case *changeset.WriteFile:
		return paths("write file", forbidden, g, a.Path)
	case *changeset.MovePath:
		return paths("move", forbiddenTree, g, a.From, a.To)
	case *changeset.RemovePath:
		return paths("remove", forbiddenTree, g, a.Path)
	case *changeset.SetArgument:
		return named("set argument", "arguments", a.Service+"/"+a.Option, g.Arguments)
	case *changeset.RemoveArgument:
		return named("remove argument", "arguments", a.Service+"/"+a.Option, g.Arguments)
	case *changeset.SetLock:
		return named("set lock", "locks", a.Name, g.Locks)
	case *changeset.ClearLock:
		return named("clear lock", "locks", a.Name, g.Locks)
	case *changeset.ControlService:
		return named(string(a.Action)+" service", "services", a.Service, g.Services)
	case *changeset.IssueCertificate:
		return named("issue certificate", "certificates", a.Profile, g.Certificates)
	case *changeset.SetTrust:
		return named("set trust", "trust", a.Authority, g.Trust)
	case *changeset.ChangeMember:
		if !g.Members {
			return &Refusal{Verb: string(a.Action) + " member", Target: a.PeerAddress, Grant: "members"}
		}
	case *changeset.Wait:
		return nil
	case *changeset.ApplyManifests:
		if len(g.Objects) == 0 {
			return &Refusal{Verb: "apply manifests", Target: a.Inventory, Grant: "objects"}
		}
		if objects != nil {
			return objects(a.Manifests, g.Objects)
		}
	case *changeset.DeleteManifests:
		if len(g.Objects) == 0 {
			return &Refusal{Verb: "delete manifests", Target: a.Inventory, Grant: "objects"}
		}
	case *changeset.ActivatePlugin:
		return &Refusal{Verb: "activate plugin", Target: a.Kind + "/" + a.Name}
	default:
		return fmt.Errorf("an operation of type %T is unknown to this mk", a)
	}
	return nil
}

func paths(verb string, never func(string) bool, g plugin.Grants, names ...string) error {
	for _, n := range names {
		if never(n) {
			return &Refusal{Verb: verb, Target: n}
		}
		if err := named(verb, "filesWrite", n, g.FilesWrite); err != nil {
			return err
		}
	}
	return nil
}

func named(verb, grant, name string, globs []string) error {
	for _, glob := range globs {
		if Match(glob, name) {
			return nil
		}
	}
	return &Refusal{Verb: verb, Target: name, Grant: grant + ": " + name}
}

// Match reports whether a glob of a grant covers a name: path.Match for each
// element, and ** for any number of them. A malformed glob covers nothing.
func Match(glob, name string) bool {
	g, n := strings.Split(glob, "/"), strings.Split(name, "/")
	for _, element := range g {
		if _, err := path.Match(element, ""); err != nil {
			return false
		}
	}
	star, from := -1, 0 // the last ** so far, and how far it reaches
	i, j := 0, 0
	for j < len(n) {
		switch {
		case i < len(g) && g[i] == "**":
			star, from = i, j
			i++
			continue
		case i < len(g):
			if ok, _ := path.Match(g[i], n[j]); ok {
				i, j = i+1, j+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		i, j = star+1, from
	}
	for i < len(g) && g[i] == "**" {
		i++
	}
	return i == len(g)
}
