package pluginsdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/plugin"
)

// SourceShipped is the source of plugins that came with mk. Whoever installed
// mk agreed to what they may do.
const SourceShipped = "shipped"

// InstallShipped installs what a release brings in <folder>/<kind>-<name>: those
// that are missing or of a version that is not installed yet, and, where a build
// has the same version as before with another content, that content. What
// nothing is active for becomes active, if the folder's file "defaults" names it
// or is not there; what someone chose stays. It answers what it installed. Nothing is read but manifests where all is in place.
//
// A plugin that fails does not keep the others out; the error joins all.
func (d *Dir) InstallShipped(ctx context.Context, folder string, o Options) ([]*Result, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("reading the plugins that ship with mk: %w", err)
	}
	defaults, err := readDefaults(folder)
	if err != nil {
		return nil, fmt.Errorf("reading which plugins are the default ones: %w", err)
	}
	o.Source = SourceShipped
	o.Consent = func(*Proposal) error { return nil }
	var results []*Result
	var failed []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		r, err := d.installShipped(ctx, filepath.Join(folder, e.Name()), e.Name(), defaults, o)
		if err != nil {
			failed = append(failed, fmt.Errorf("installing %s, which ships with mk: %w", e.Name(), err))
			continue
		}
		if r != nil {
			results = append(results, r)
		}
	}
	return results, errors.Join(failed...)
}

// Shipped is a plugin that a release brings.
type Shipped struct {
	Manifest *manifest.Manifest
	Missing  bool // of a version that is not installed
	Default  bool // it becomes active where nothing is
}

// PlanShipped says what InstallShipped would install. It reads manifests and
// changes nothing.
func (d *Dir) PlanShipped(folder string) ([]Shipped, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("reading the plugins that ship with mk: %w", err)
	}
	defaults, err := readDefaults(folder)
	if err != nil {
		return nil, fmt.Errorf("reading which plugins are the default ones: %w", err)
	}
	l, err := d.Lock()
	if err != nil {
		return nil, err
	}
	var out []Shipped
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		m, _, err := readManifest(filepath.Join(folder, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		id := m.Identity.Identity
		out = append(out, Shipped{
			Manifest: m, Missing: sameVersion(l, id) == nil, Default: defaults == nil || slices.Contains(defaults, id.String()),
		})
	}
	return out, nil
}

// installShipped answers nil where there is nothing to do.
func (d *Dir) installShipped(ctx context.Context, from, name string, defaults []string, o Options) (*Result, error) {
	m, raw, err := readManifest(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // some other folder
	}
	if err != nil {
		return nil, err
	}
	id := m.Identity.Identity
	if want := fileName(id.Kind, id.Name); want != name {
		return nil, fmt.Errorf("the folder of %s must be called %s", id, want)
	}
	l, err := d.Lock()
	if err != nil {
		return nil, err
	}
	_, known := l.User(id.Kind, id.Name)
	var result *Result
	switch old := sameVersion(l, id); {
	case old == nil:
		result, err = d.Install(ctx, from, o)
	case old.Source != SourceShipped || old.Manifest == digestOf(raw):
		// In place already; or someone else's of the same version, which stays.
	default:
		result, err = d.replaceShipped(ctx, from, *old, o)
	}
	if err != nil {
		return nil, err
	}
	if defaults != nil && !slices.Contains(defaults, id.String()) {
		return result, nil
	}
	return result, d.activateShipped(id, o, known)
}

// defaultsName is the file of a release that says which of several plugins of
// one kind a new node begins with.
const defaultsName = "defaults"

// readDefaults answers nil where a folder has no such file.
func readDefaults(folder string) ([]string, error) {
	const most = 64 << 10
	r, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := readPlain(r, defaultsName, most)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := []string{}
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names, nil
}

func readManifest(from string) (*manifest.Manifest, []byte, error) {
	r, err := os.OpenRoot(from)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the plugin's folder: %w", err)
	}
	defer r.Close()
	raw, err := readPlain(r, manifest.FileName, manifest.MaxSize)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the manifest: %w", err)
	}
	m, err := manifest.ParseStored(raw, filepath.Join(from, manifest.FileName))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the manifest: %w", err)
	}
	return m, raw, nil
}

func sameVersion(l *lockfile.Lock, id plugin.Identity) *lockfile.Installed {
	for _, v := range l.Versions(id.Kind, id.Name) {
		if v.Version == id.Version {
			return &v
		}
	}
	return nil
}

// replaceShipped puts a rebuilt content in place of the same version, active or
// not: mk's own programs were replaced in the same way.
func (d *Dir) replaceShipped(ctx context.Context, from string, old lockfile.Installed, o Options) (*Result, error) {
	for _, p := range o.Pins {
		if p.Digest == old.Digest {
			return nil, nil // when the operation is finished
		}
	}
	o.rebuilt = true
	return d.Install(ctx, from, o)
}

// activateShipped makes a plugin active where nothing is: for kinds of which a
// node has one, always; for addons at their first install alone, so that what
// someone switched off stays off.
func (d *Dir) activateShipped(id plugin.Identity, o Options, known bool) error {
	l, err := d.Lock()
	if err != nil {
		return err
	}
	authorities := []string{""}
	if id.Kind == plugin.KindCerts {
		authorities = lockfile.Authorities()
	}
	n := l
	for _, authority := range authorities {
		free := !slices.ContainsFunc(l.ActiveOf(id.Kind), func(a lockfile.Active) bool { return a.Authority == authority })
		if id.Kind == plugin.KindAddons {
			free = !known
		}
		if !free {
			continue
		}
		n, _, err = lockfile.PlanActivate(n, lockfile.Activation{
			Kind: id.Kind, Name: id.Name, Authority: authority, Constraint: "", By: o.By, At: o.At,
		})
		if err != nil {
			return fmt.Errorf("making %s active: %w", id, err)
		}
	}
	if n == l {
		return nil
	}
	return d.WriteLock(n)
}
