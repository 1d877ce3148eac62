package lockfile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"mk8s.io/mk/pluginsdir/problem"
	"mk8s.io/mk/sdk/plugin"
)

// Flip is one place where another plugin becomes active. It is what a
// ChangeSet's ActivatePlugin carries.
type Flip struct {
	Kind      string    `json:"kind"`
	Authority string    `json:"authority,omitempty"`
	From      Previous  `json:"from,omitzero"` // zero where nothing was active
	To        Installed `json:"to"`
}

// Activation says what shall become active.
type Activation struct {
	Kind, Name string
	Constraint string // of the version; empty takes the newest release
	Authority  string // certs only; empty means all authorities
	By         string
	At         time.Time
}

// Resolve finds the newest installed version that fits a constraint. Without
// one a pre-release is taken only where there is nothing else; the exact version
// always fits.
func (l *Lock) Resolve(kind, name, constraint string) (Installed, error) {
	id := kind + "/" + name
	versions := l.Versions(kind, name)
	if len(versions) == 0 {
		return Installed{}, problem.New(fmt.Sprintf("plugin %s is not installed", id), l.installedOf(kind),
			"mk plugin install FOLDER")
	}
	if constraint == "" {
		for _, v := range versions {
			if s, err := semver.StrictNewVersion(v.Version); err == nil && s.Prerelease() == "" {
				return v, nil
			}
		}
		return versions[0], nil
	}
	for _, v := range versions {
		if v.Version == constraint {
			return v, nil
		}
	}
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return Installed{}, problem.New(fmt.Sprintf("%s@%s is no version", id, constraint),
			"it must be a version like 1.2.3 or a constraint like ~1.2", "mk plugin list")
	}
	for _, v := range versions {
		if s, err := semver.StrictNewVersion(v.Version); err == nil && c.Check(s) {
			return v, nil
		}
	}
	return Installed{}, problem.New(fmt.Sprintf("no installed version of %s fits %s", id, constraint),
		"installed are "+versionNames(versions), fmt.Sprintf("mk plugin use %s@%s", id, versions[0].Version))
}

func versionNames(versions []Installed) string {
	names := make([]string, len(versions))
	for i := range versions {
		names[i] = versions[i].Version
	}
	return strings.Join(names, ", ")
}

// installedOf says what there is of a kind.
func (l *Lock) installedOf(kind string) string {
	var names []string
	for _, i := range l.Installed {
		if i.Kind == kind && !slices.Contains(names, i.String()) {
			names = append(names, i.String())
		}
	}
	if len(names) == 0 {
		return "no plugin of kind " + kind + " is"
	}
	return "installed are " + strings.Join(names, ", ")
}

// PlanActivate answers the lock after the activation and the places that
// change; no flip means that it is so already. The lock given stays as it is.
func PlanActivate(l *Lock, a Activation) (*Lock, []Flip, error) {
	to, err := l.Resolve(a.Kind, a.Name, a.Constraint)
	if err != nil {
		return nil, nil, err
	}
	authorities := []string{a.Authority}
	if a.Kind == plugin.KindCerts && a.Authority == "" {
		authorities = Authorities()
	}
	n := l.clone()
	var flips []Flip
	for _, authority := range authorities {
		if message := slotFault(a.Kind, authority); message != "" {
			return nil, nil, problem.New(fmt.Sprintf("%s cannot be made active", to.Identity), message, "")
		}
		if f, changed := n.set(to, authority, a.Constraint, a.By, a.At); changed {
			flips = append(flips, f)
		}
	}
	n.sort()
	return n, flips, nil
}

// Activate is the change that one ActivatePlugin of a ChangeSet makes: exactly
// this digest becomes active.
func (l *Lock) Activate(kind, name, digest, authority, by string, at time.Time) (*Lock, error) {
	to, ok := l.Find(digest)
	if !ok || to.Kind != kind || to.Name != name {
		return nil, problem.Refused(fmt.Sprintf("plugin %s/%s cannot be made active", kind, name),
			fmt.Sprintf("no version with the digest %s is installed", digest), "mk plugin list")
	}
	if message := slotFault(kind, authority); message != "" {
		return nil, problem.New(fmt.Sprintf("%s cannot be made active", to.Identity), message, "")
	}
	n := l.clone()
	constraint := ""
	for _, a := range l.Active {
		if a.Name == name && a.Kind == kind && a.Authority == authority && fits(a.Constraint, to.Version) {
			constraint = a.Constraint
		}
	}
	n.set(to, authority, constraint, by, at)
	n.sort()
	return n, nil
}

func fits(constraint, version string) bool {
	c, err := semver.NewConstraint(constraint)
	v, e := semver.StrictNewVersion(version)
	return constraint != "" && err == nil && e == nil && c.Check(v)
}

// set changes this lock; what was active there becomes the newest previous.
func (l *Lock) set(to Installed, authority, constraint, by string, at time.Time) (Flip, bool) {
	n := Active{
		Kind: to.Kind, Authority: authority, Name: to.Name, Version: to.Version, Digest: to.Digest,
		Constraint: constraint, By: by, Since: at.UTC(),
	}
	f := Flip{Kind: to.Kind, Authority: authority, To: to}
	for i := range l.Active {
		a := &l.Active[i]
		if !a.sameSlot(&n) {
			continue
		}
		if a.Digest == to.Digest {
			a.Constraint = constraint
			return Flip{}, false
		}
		f.From = Previous{Name: a.Name, Version: a.Version, Digest: a.Digest, Constraint: a.Constraint, Until: at.UTC()}
		n.Previous = append([]Previous{f.From}, a.Previous...)
		n.Previous = n.Previous[:min(len(n.Previous), maxPrevious)]
		*a = n
		return f, true
	}
	l.Active = append(l.Active, n)
	return f, true
}

// PlanRollback goes back, wherever the plugin is active, to what was active
// there before; again goes back further. What is no longer installed is passed
// over. Where that is another plugin, the flip shows it.
func PlanRollback(l *Lock, kind, name, by string, at time.Time) (*Lock, []Flip, error) {
	id := kind + "/" + name
	n := l.clone()
	var flips []Flip
	active := false
	for i := range n.Active {
		a := &n.Active[i]
		if a.Kind != kind || a.Name != name {
			continue
		}
		active = true
		if f, ok := n.back(a, by, at); ok {
			flips = append(flips, f)
		}
	}
	switch {
	case !active:
		return nil, nil, problem.New(fmt.Sprintf("plugin %s is not active", id), "only an active plugin can be rolled back", "mk plugin list")
	case len(flips) == 0:
		return nil, nil, problem.New(fmt.Sprintf("plugin %s cannot be rolled back", id),
			"nothing that is still installed was active before it", "mk plugin use KIND/NAME@VERSION")
	}
	n.sort()
	return n, flips, nil
}

// back changes one place of this lock.
func (l *Lock) back(a *Active, by string, at time.Time) (Flip, bool) {
	for i, p := range a.Previous {
		to, ok := l.Find(p.Digest)
		if !ok {
			continue
		}
		f := Flip{
			Kind: a.Kind, Authority: a.Authority, To: to,
			From: Previous{Name: a.Name, Version: a.Version, Digest: a.Digest, Constraint: a.Constraint, Until: at.UTC()},
		}
		*a = Active{
			Kind: a.Kind, Authority: a.Authority, Name: to.Name, Version: to.Version, Digest: to.Digest,
			Constraint: p.Constraint, By: by, Since: at.UTC(), Previous: slices.Clone(a.Previous[i+1:]),
		}
		return f, true
	}
	return Flip{}, false
}

// Pin is a version that an open operation needs.
type Pin struct {
	Digest    string
	Operation string // as people know it: "join (118)"
}

// PlanRemove answers the lock without the versions that fit the constraint
// (empty: all of them), and what it removes. It refuses what is active or
// pinned. The uid stays given to the plugin: what lies in its state folder must
// never become another's.
func PlanRemove(l *Lock, kind, name, constraint string, pins []Pin) (*Lock, []Installed, error) {
	versions := l.Versions(kind, name)
	if len(versions) == 0 || constraint != "" {
		one, err := l.Resolve(kind, name, constraint)
		if err != nil {
			return nil, nil, err
		}
		versions = []Installed{one}
	}
	for _, v := range versions {
		if err := l.removable(v, pins); err != nil {
			return nil, nil, err
		}
	}
	n := l.clone()
	gone := func(digest string) bool {
		return slices.ContainsFunc(versions, func(v Installed) bool { return v.Digest == digest })
	}
	n.Installed = slices.DeleteFunc(n.Installed, func(i Installed) bool { return gone(i.Digest) })
	for i := range n.Active {
		n.Active[i].Previous = slices.DeleteFunc(n.Active[i].Previous, func(p Previous) bool { return gone(p.Digest) })
	}
	n.sort()
	return n, versions, nil
}

func (l *Lock) removable(v Installed, pins []Pin) error {
	what := fmt.Sprintf("plugin %s %s cannot be removed", v.Identity, v.Version)
	for _, a := range l.Active {
		if a.Digest != v.Digest {
			continue
		}
		place := ""
		if a.Authority != "" {
			place = " for " + a.Authority
		}
		return problem.New(what, "it is active"+place, fmt.Sprintf("mk plugin use %s/NAME: another one first", v.Kind))
	}
	for _, p := range pins {
		if p.Digest == v.Digest {
			return problem.New(what, p.Operation+" is not finished and needs it", "mk changes")
		}
	}
	return nil
}

// PlanDeactivate takes an addons plugin out of the active ones. Every other
// kind must have one, so they are refused.
func PlanDeactivate(l *Lock, kind, name string) (*Lock, error) {
	if kind != plugin.KindAddons {
		return nil, problem.New(fmt.Sprintf("%s/%s cannot be switched off", kind, name),
			"a node needs one of kind "+kind, fmt.Sprintf("mk plugin use %s/NAME", kind))
	}
	n := l.clone()
	n.Active = slices.DeleteFunc(n.Active, func(a Active) bool { return a.Kind == kind && a.Name == name })
	if len(n.Active) == len(l.Active) {
		return nil, problem.New(fmt.Sprintf("plugin %s/%s is not active", kind, name), "", "mk plugin list")
	}
	return n, nil
}
