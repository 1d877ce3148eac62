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
	"sync"

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
	l, err := d.Lock()
	if err != nil {
		return nil, err
	}
	var all []*shipping
	for _, e := range entries {
		if e.IsDir() {
			s := &shipping{folder: filepath.Join(folder, e.Name()), name: e.Name(), options: o}
			s.err = s.look(l)
			all = append(all, s)
		}
	}
	if err := d.fetchShipped(ctx, l, all); err != nil {
		return nil, err
	}
	var results []*Result
	var failed []error
	for _, s := range all {
		r, err := d.installShipped(ctx, s, defaults)
		if err != nil {
			failed = append(failed, fmt.Errorf("installing %s, which ships with mk: %w", s.name, err))
		}
		if r != nil {
			results = append(results, r)
		}
	}
	return results, errors.Join(failed...)
}

// shipping is a plugin of a release on its way.
type shipping struct {
	folder, name string
	options      Options
	manifest     *manifest.Manifest // nil: the folder is no plugin's
	known        bool               // it was installed before, in any version
	fetch        bool               // it is to be installed
	install      *install
	err          error
}

// fetchShipped copies what is to be installed, all of it at once: that takes
// longer than the rest, and changes nothing that is in use.
func (d *Dir) fetchShipped(ctx context.Context, l *lockfile.Lock, all []*shipping) error {
	wanted := slices.DeleteFunc(slices.Clone(all), func(s *shipping) bool { return !s.fetch })
	if len(wanted) == 0 {
		return nil
	}
	if _, err := d.Sweep(ctx); err != nil {
		return err
	}
	var copies sync.WaitGroup
	for _, s := range wanted {
		s.install = newInstall(d, l, s.options)
		copies.Go(func() { s.err = s.install.fetch(ctx, s.folder) })
	}
	copies.Wait()
	return nil
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

// look finds out what is to be done.
func (s *shipping) look(l *lockfile.Lock) error {
	m, raw, err := readManifest(s.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // some other folder
	}
	if err != nil {
		return err
	}
	id := m.Identity.Identity
	if want := fileName(id.Kind, id.Name); want != s.name {
		return fmt.Errorf("the folder of %s must be called %s", id, want)
	}
	s.manifest = m
	_, s.known = l.User(id.Kind, id.Name)
	switch old := sameVersion(l, id); {
	case old == nil:
		s.fetch = true
	case old.Source != SourceShipped || old.Manifest == digestOf(raw):
		// In place already; or someone else's of the same version, which stays.
	default:
		// A rebuilt content takes the place of the same version, active or not: mk's
		// own programs were replaced in the same way. An open operation ends first.
		s.options.rebuilt = true
		s.fetch = !slices.ContainsFunc(s.options.Pins, func(p lockfile.Pin) bool { return p.Digest == old.Digest })
	}
	return nil
}

// installShipped answers nil where there is nothing to do.
func (d *Dir) installShipped(ctx context.Context, s *shipping, defaults []string) (*Result, error) {
	if s.install != nil {
		defer s.install.close()
	}
	if s.err != nil || s.manifest == nil {
		return nil, s.err
	}
	activate := func(l *lockfile.Lock) (*lockfile.Lock, error) { return l, nil }
	id := s.manifest.Identity.Identity
	if defaults == nil || slices.Contains(defaults, id.String()) {
		activate = func(l *lockfile.Lock) (*lockfile.Lock, error) { return activateShipped(l, id, s.options, s.known) }
	}
	l, err := d.Lock() // the one before has written it
	if err != nil {
		return nil, err
	}
	if s.install != nil {
		s.install.lock, s.install.options.activate = l, activate
		return s.install.finish(ctx)
	}
	next, err := activate(l)
	if err != nil || next == l {
		return nil, err
	}
	return nil, d.WriteLock(next)
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

// activateShipped makes a plugin active where nothing is: for kinds of which a
// node has one, always; for addons at their first install alone, so that what
// someone switched off stays off.
func activateShipped(l *lockfile.Lock, id plugin.Identity, o Options, known bool) (*lockfile.Lock, error) {
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
		var err error
		n, _, err = lockfile.PlanActivate(n, lockfile.Activation{
			Kind: id.Kind, Name: id.Name, Authority: authority, Constraint: "", By: o.By, At: o.At,
		})
		if err != nil {
			return nil, fmt.Errorf("making %s active: %w", id, err)
		}
	}
	return n, nil
}
