// Package lockfile is the plugins' lock file: which plugins are installed with
// which digests, what was consented to, and which of them are active. It is the
// only place that says so; there are no links beside it that could disagree.
//
// A Lock is a value: every change answers a new one and leaves the old one as
// it was, so that the writer can journal the step from one to the other.
// The package reads and writes no files and takes no lock.
package lockfile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/plugin"
)

// FileName is the lock file's name in the plugins folder.
const FileName = "lock.json"

// Schema is the version of the file's form.
const Schema = 1

// MaxSize is how large the file may be.
const MaxSize = 4 << 20

// The numbers that plugins' users are given from.
const (
	FirstUser = 62000
	LastUser  = 62999
)

// maxPrevious bounds how far back rollback can go.
const maxPrevious = 10

// Authorities lists those that a certs plugin can be active for.
func Authorities() []string { return []string{"kubernetes", "front-proxy", "datastore"} }

// Lock is the lock file.
type Lock struct {
	Schema    int            `json:"schema"`
	Users     map[string]int `json:"users"` // kind/name → uid; kept when a plugin is removed
	Installed []Installed    `json:"installed"`
	Active    []Active       `json:"active"`
}

// Installed is one version of one plugin in the store.
type Installed struct {
	plugin.Identity
	Description string              `json:"description,omitempty"`
	Digest      string              `json:"digest"`   // of the whole folder, "sha256:…"
	Manifest    string              `json:"manifest"` // of its plugin.yaml, "sha256:…"
	Contracts   []string            `json:"contracts"`
	Programs    []manifest.Platform `json:"programs"` // of all machines the manifest names
	Grants      plugin.Grants       `json:"grants"`
	Class       manifest.Class      `json:"class"`
	Consent     Consent             `json:"consent"`
	Source      string              `json:"source"` // "shipped", or "folder:…"
	By          string              `json:"by"`
	At          time.Time           `json:"at"`
}

// Consent is who agreed to the grants.
type Consent struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// Program is the program for a machine.
func (i *Installed) Program(os, arch string) (manifest.Platform, bool) {
	return manifest.ProgramFor(i.Programs, os, arch)
}

// Active is the plugin that answers in one place: for one authority (certs),
// for the node (tokens, clustering), or beside others (addons).
type Active struct {
	Kind       string     `json:"kind"`
	Authority  string     `json:"authority,omitempty"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Digest     string     `json:"digest"`
	Constraint string     `json:"constraint,omitempty"` // as the user wrote it
	By         string     `json:"by,omitempty"`
	Since      time.Time  `json:"since"`
	Previous   []Previous `json:"previous,omitempty"` // newest first
}

// String is kind/name.
func (a *Active) String() string { return a.Kind + "/" + a.Name }

// sameSlot says whether two entries exclude each other.
func (a *Active) sameSlot(b *Active) bool {
	return a.Kind == b.Kind && a.Authority == b.Authority && (a.Kind != plugin.KindAddons || a.Name == b.Name)
}

// Previous is what was active before.
type Previous struct {
	Name       string    `json:"name"`
	Version    string    `json:"version"`
	Digest     string    `json:"digest"`
	Constraint string    `json:"constraint,omitempty"`
	Until      time.Time `json:"until"`
}

// New is the lock file of a node without plugins.
func New() *Lock { return &Lock{Schema: Schema} }

// Bytes is the file's content: the same lock gives the same bytes.
func (l *Lock) Bytes() []byte {
	c := l.clone()
	c.sort()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		panic(fmt.Sprintf("lockfile: %v", err)) // no field can fail
	}
	return b.Bytes()
}

// clone copies everything that a change may touch.
func (l *Lock) clone() *Lock {
	c := &Lock{Schema: l.Schema, Users: map[string]int{}}
	for k, v := range l.Users {
		c.Users[k] = v
	}
	c.Installed = append([]Installed{}, l.Installed...)
	c.Active = append([]Active{}, l.Active...)
	for i := range c.Active {
		c.Active[i].Previous = slices.Clone(c.Active[i].Previous)
	}
	return c
}

func (l *Lock) sort() {
	slices.SortFunc(l.Installed, func(a, b Installed) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name),
			manifest.CompareVersions(a.Version, b.Version))
	})
	slices.SortFunc(l.Active, func(a, b Active) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Authority, b.Authority), cmp.Compare(a.Name, b.Name))
	})
}

// Versions lists what is installed of a plugin, newest first.
func (l *Lock) Versions(kind, name string) []Installed {
	var out []Installed
	for _, i := range l.Installed {
		if i.Kind == kind && i.Name == name {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b Installed) int { return manifest.CompareVersions(b.Version, a.Version) })
	return out
}

// Find is the installed plugin with a digest.
func (l *Lock) Find(digest string) (Installed, bool) {
	i := slices.IndexFunc(l.Installed, func(i Installed) bool { return i.Digest == digest })
	if i < 0 {
		return Installed{}, false
	}
	return l.Installed[i], true
}

// ActiveFor is the plugin that answers: certs need an authority, other kinds
// none. For addons it is the first of possibly many: see ActiveOf.
func (l *Lock) ActiveFor(kind, authority string) (Installed, bool) {
	for _, a := range l.Active {
		if a.Kind == kind && a.Authority == authority {
			return l.Find(a.Digest)
		}
	}
	return Installed{}, false
}

// ActiveOf lists the entries of a kind.
func (l *Lock) ActiveOf(kind string) []Active {
	var out []Active
	for _, a := range l.Active {
		if a.Kind == kind {
			out = append(out, a)
		}
	}
	return out
}

// User is the uid of a plugin.
func (l *Lock) User(kind, name string) (int, bool) {
	uid, ok := l.Users[kind+"/"+name]
	return uid, ok
}

// Parse reads the file strictly; file is the name for messages. The error is of
// type strict.Faults. A file that Bytes wrote is recognized as such and read
// fast.
func Parse(data []byte, file string) (*Lock, error) {
	if len(data) <= MaxSize {
		if l, ok := parseOwn(data); ok {
			return l, nil
		}
	}
	return parseStrict(data, file)
}

// parseOwn accepts exactly what Bytes writes: whatever a lenient parser let
// pass would be written differently.
func parseOwn(data []byte) (*Lock, bool) {
	var l Lock
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, false
	}
	if len(faults(&l)) > 0 || !bytes.Equal(l.Bytes(), data) {
		return nil, false
	}
	return &l, true
}

// SplitName takes kind/name@constraint apart.
func SplitName(s string) (kind, name, constraint string, err error) {
	id, constraint, _ := strings.Cut(s, "@")
	kind, name, ok := strings.Cut(id, "/")
	if !ok || !slices.Contains(plugin.Kinds(), kind) || !manifest.ValidName(name) {
		return "", "", "", fmt.Errorf("%q is no plugin: write kind/name or kind/name@version, kind being one of %s",
			s, strings.Join(plugin.Kinds(), ", "))
	}
	return kind, name, constraint, nil
}
