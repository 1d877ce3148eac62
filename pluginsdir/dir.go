// Package pluginsdir manages a node's plugins folder: versions side by side in
// a store whose folders are named by their digest, the lock file that says what
// is installed and active, settings, history, and what plugins said of
// themselves.
//
//	lock.json                   what is installed, consented to and active: the one source of truth
//	store/sha256-…/             one folder for each version, read-only
//	described/<hex>.json        what Describe, List and Probe answered, by digest
//	receipts/<kind>-<name>.json who installed what, when and from where
//	settings/<kind>-<name>.json settings, for root only
//	state/<kind>/<name>/        the plugin's own; never touched here
//
// There are no links to active versions: a second place that says what is active
// could disagree with the lock file, and nothing would gain from it.
//
// The package takes no lock and starts no program. Whoever calls a method that
// writes holds the node's operation lock, except where the method says
// otherwise; methods that only read may be called by anyone at any time.
package pluginsdir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/pluginsdir/problem"
)

// ErrRefused is found by errors.Is where something was refused for the sake of
// safety: integrity, consent, a contract that is not spoken.
var ErrRefused = problem.ErrRefused

// Modes of what is written. The admin group may read all but settings.
const (
	folderMode   fs.FileMode = 0o711
	fileMode     fs.FileMode = 0o640
	settingsMode fs.FileMode = 0o600
)

// Files writes the folder's small files. Names are relative to the plugins
// folder and use slashes.
type Files interface {
	// WriteFile replaces a file atomically and durably: after it returns the
	// file holds data whatever happens, before it does the old content. Missing
	// folders are made with mode 0711.
	WriteFile(name string, data []byte, mode fs.FileMode) error
	// Remove removes a file durably; one that is not there is no error.
	Remove(name string) error
}

// Dir is a plugins folder. Its zero value is not usable; see New.
type Dir struct {
	path  string
	files Files

	mu   sync.Mutex
	text []byte         // of the lock file, as it was last read
	lock *lockfile.Lock // what it says
}

// New names the plugins folder of a node. It need not exist. files may be nil
// where nothing is written.
func New(path string, files Files) *Dir { return &Dir{path: path, files: files} }

// Path is the plugins folder.
func (d *Dir) Path() string { return d.path }

// StorePath is the folder of a digest ("sha256:…").
func (d *Dir) StorePath(digest string) string {
	return filepath.Join(d.path, "store", storeName(digest))
}

func storeName(digest string) string { return strings.Replace(digest, ":", "-", 1) }

// StatePath is the folder that belongs to the plugin's own user.
func (d *Dir) StatePath(kind, name string) string { return filepath.Join(d.path, "state", kind, name) }

// Lock reads the lock file; a node without one has no plugins. Nobody changes
// what it answers: it is the same while the file is. Plans make new ones.
func (d *Dir) Lock() (*lockfile.Lock, error) {
	data, err := d.read(lockfile.FileName, lockfile.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return lockfile.New(), nil
	}
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lock != nil && bytes.Equal(d.text, data) {
		return d.lock, nil
	}
	l, err := lockfile.Parse(data, filepath.Join(d.path, lockfile.FileName))
	if err != nil {
		return nil, fmt.Errorf("reading the plugins' lock file: %w", err)
	}
	d.text, d.lock = data, l
	return l, nil
}

// WriteLock replaces the lock file. A ChangeSet that activates plugins writes
// the same bytes (Lock.Bytes) through its own journal instead.
func (d *Dir) WriteLock(l *lockfile.Lock) error {
	if err := d.files.WriteFile(lockfile.FileName, l.Bytes(), fileMode); err != nil {
		return fmt.Errorf("writing the plugins' lock file: %w", err)
	}
	return nil
}

// Manifest reads the manifest of something installed from the store and checks
// it against the digest that the lock file holds.
func (d *Dir) Manifest(i lockfile.Installed) (*manifest.Manifest, error) {
	name := filepath.Join("store", storeName(i.Digest), manifest.FileName)
	what := fmt.Sprintf("plugin %s %s cannot be used", i.Identity, i.Version)
	next := fmt.Sprintf("mk plugin verify %s", i.Identity)
	data, err := d.read(name, manifest.MaxSize)
	if err != nil {
		return nil, problem.Wrap(err, what, next, true)
	}
	if got := digestOf(data); got != i.Manifest {
		return nil, problem.Refused(what, fmt.Sprintf("its manifest was changed: its digest is %s, the lock file says %s", got, i.Manifest), next)
	}
	m, err := manifest.ParseStored(data, filepath.Join(d.path, name))
	if err != nil {
		return nil, problem.Wrap(err, what, next, true)
	}
	return m, nil
}

// read reads a plain file below the plugins folder, of at most limit bytes.
func (d *Dir) read(name string, limit int) ([]byte, error) {
	p := filepath.Join(d.path, filepath.FromSlash(name))
	f, err := os.Open(p)
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p, err)
	}
	if len(data) > limit {
		return nil, fmt.Errorf("reading %s: larger than %d bytes", p, limit)
	}
	return data, nil
}

// fileName is kind-name, as shipped folders and our own files are called.
func fileName(kind, name string) string { return kind + "-" + name }
