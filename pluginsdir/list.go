package pluginsdir

import (
	"fmt"
	"os"
	"slices"

	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
)

// Listed is one installed version.
type Listed struct {
	lockfile.Installed
	User    int      `json:"user"`
	Active  bool     `json:"active"`
	For     []string `json:"for,omitempty"`     // authorities, where it is active for such
	Missing bool     `json:"missing,omitempty"` // it stands in the lock file, but not in the store
}

// List names what is installed, sorted by plugin and version, from the lock
// file alone. It starts nothing and opens no plugin's folder.
func (d *Dir) List() ([]Listed, error) {
	l, err := d.Lock()
	if err != nil {
		return nil, err
	}
	out := make([]Listed, 0, len(l.Installed))
	for _, i := range l.Installed {
		out = append(out, d.listed(l, i))
	}
	return out, nil
}

func (d *Dir) listed(l *lockfile.Lock, i lockfile.Installed) Listed {
	e := Listed{Installed: i}
	e.User, _ = l.User(i.Kind, i.Name)
	for _, a := range l.Active {
		if a.Digest != i.Digest {
			continue
		}
		e.Active = true
		if a.Authority != "" {
			e.For = append(e.For, a.Authority)
		}
	}
	_, err := os.Lstat(d.StorePath(i.Digest))
	e.Missing = err != nil
	return e
}

// Details is all that is known of one installed version without starting it.
type Details struct {
	Listed
	Content   *manifest.Manifest `json:"content"`           // of its plugin.yaml
	Reasons   []string           `json:"reasons,omitempty"` // why it is root-equivalent
	May       []string           `json:"may,omitempty"`     // its grants, for people
	Described *Described         `json:"described,omitempty"`
	Others    []string           `json:"others,omitempty"` // other installed versions, newest first
	History   []Event            `json:"history"`
}

// Info tells all of one version; with an empty constraint of the active one,
// else of the newest.
func (d *Dir) Info(kind, name, constraint string) (*Details, error) {
	l, err := d.Lock()
	if err != nil {
		return nil, err
	}
	i, err := l.Resolve(kind, name, constraint)
	if err != nil {
		return nil, err
	}
	if constraint == "" {
		for _, a := range l.ActiveOf(kind) {
			if active, ok := l.Find(a.Digest); ok && a.Name == name {
				i = active
				break
			}
		}
	}
	out := &Details{Listed: d.listed(l, i), May: manifest.Lines(i.Grants), History: []Event{}}
	_, out.Reasons = manifest.Classify(i.Kind, i.Grants)
	if out.Content, err = d.Manifest(i); err != nil {
		return nil, err
	}
	if out.Described, err = d.LoadDescribed(i.Digest); err != nil {
		return nil, fmt.Errorf("reading what %s said: %w", i.Identity, err)
	}
	history, err := d.History(kind, name)
	if err != nil {
		return nil, err
	}
	out.History = append(out.History, history...)
	for _, v := range l.Versions(kind, name) {
		if v.Digest != i.Digest && !slices.Contains(out.Others, v.Version) {
			out.Others = append(out.Others, v.Version)
		}
	}
	return out, nil
}
