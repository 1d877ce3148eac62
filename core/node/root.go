package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// DefaultDir is the root folder where neither --root nor MK_ROOT says another.
const DefaultDir = "/var/lib/mk"

// Options of a Root. The zero value has no admin group and no Step.
type Options struct {
	// Step is called before each change of the file system that this package
	// makes, with the operation's name and the path relative to the root.
	// Crash tests end the process in it; nil in production.
	Step func(op, path string)
	// GID is the admin group's number; 0 means that there is none, and then
	// secrets are for root alone. See AdminGroup.
	GID int
	// Group is the admin group's name, for messages.
	Group string
}

// Root is an open root folder. Its methods may be used from several
// goroutines; Close ends it.
type Root struct {
	dir  string
	fs   *os.Root
	opts Options
}

// openFolders are the folders that others must be able to pass through,
// because a plugin's own user has its state below them or reads its program
// there. closedFolders are for root and the admin group. The order is the
// order of creation: var/lock comes last, so a tree that has it is whole.
func openFolders() []string {
	return []string{"plugins", "plugins/state", "var", "var/kubernetes"}
}

func closedFolders() []string {
	return []string{"args", "credentials", "var/certs", "var/certs/1", "var/kubernetes/backend"}
}

// logFolder is a closed folder whose files get the admin group, whoever makes
// them.
const logFolder = "var/log"

const (
	lastFolder   = "var/lock"
	settingsFile = "settings.yaml"
)

// Create makes the tree of a node at dir, an absolute and clean path, or
// completes one that a killed process began; what is there already keeps its
// content and gets its mode again. It refuses a symbolic link, a folder that
// belongs to someone else and one that others may write. What it made before
// an error stays and is completed by the next call.
func Create(dir string, o Options) (*Root, error) {
	if err := checkDir(dir); err != nil {
		return nil, fmt.Errorf("create node at %q: %w", dir, err)
	}
	r := &Root{dir: dir, opts: o}
	if err := r.makeRoot(); err != nil {
		return nil, fmt.Errorf("create node at %s: %w", dir, err)
	}
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("create node at %s: %w", dir, err)
	}
	if err := r.makeTree(); err != nil {
		return nil, errors.Join(fmt.Errorf("create node at %s: %w", dir, err), r.Close())
	}
	return r, nil
}

// Open opens the root folder of a node that Create has made. The error is
// fs.ErrNotExist where there is none (or one whose creation was cut short).
// It changes nothing.
func Open(dir string, o Options) (*Root, error) {
	if err := checkDir(dir); err != nil {
		return nil, fmt.Errorf("open node at %q: %w", dir, err)
	}
	r := &Root{dir: dir, opts: o}
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("open node at %s: %w", dir, err)
	}
	info, err := r.fs.Lstat(lastFolder)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a folder", r.Path(lastFolder))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open node at %s: %w", dir, err), r.Close())
	}
	return r, nil
}

// Nowhere is the root of a node that does not exist: nothing is in it, and
// nothing can be put there. A dry run of what makes the node looks at it.
func Nowhere(dir string, o Options) (*Root, error) {
	if err := checkDir(dir); err != nil {
		return nil, fmt.Errorf("name the node at %q: %w", dir, err)
	}
	// A folder that is removed while it is open stays empty.
	empty, err := os.MkdirTemp("", "mk-")
	if err != nil {
		return nil, fmt.Errorf("name the node at %s: %w", dir, err)
	}
	root, err := os.OpenRoot(empty)
	if err = errors.Join(err, os.Remove(empty)); err != nil {
		return nil, fmt.Errorf("name the node at %s: %w", dir, err)
	}
	return &Root{dir: dir, fs: root, opts: o}, nil
}

// Close releases the folder. The Root's path methods stay usable.
func (r *Root) Close() error {
	if err := r.fs.Close(); err != nil {
		return fmt.Errorf("close node at %s: %w", r.dir, err)
	}
	return nil
}

// Group is the admin group's name; empty where there is none.
func (r *Root) Group() string { return r.opts.Group }

// GID is the admin group's number; 0 where there is none.
func (r *Root) GID() int { return r.opts.GID }

// openJournal makes the journal's folder. Where the group is new, it reads what
// was done before, too; the redo logs are for root alone.
func (r *Root) openJournal() error {
	const journal = "var/journal"
	p := r.SecretFolder()
	info, err := r.fs.Lstat(journal)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&settable == p.Mode {
		return r.Mkdir(journal, p)
	}
	if err != nil {
		return r.wrap("look at", journal, err)
	}
	entries, err := r.ReadDir(journal)
	if err != nil {
		return err
	}
	for _, e := range entries {
		folder := journal + "/" + e.Name()
		err := r.setModeOf(folder+"/operation.json", syscall.O_NONBLOCK, r.Secret())
		if err == nil {
			err = r.setMode(folder, p)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
	}
	return r.setMode(journal, p)
}

func checkDir(dir string) error {
	switch {
	case !filepath.IsAbs(dir):
		return errors.New("the root folder must be an absolute path")
	case filepath.Clean(dir) != dir:
		return fmt.Errorf("the root folder must be written as %s", filepath.Clean(dir))
	case dir == "/":
		return errors.New("the root folder must not be /")
	case strings.ContainsAny(dir, "\x00\n\r"):
		return errors.New("the root folder's path holds a line break or a NUL")
	}
	return nil
}

// open opens the folder and judges the very folder that it opened.
func (r *Root) open() error {
	before, err := os.Lstat(r.dir)
	if err != nil {
		return err
	}
	if before.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symbolic link; name the folder itself", r.dir)
	}
	if !before.IsDir() {
		return fmt.Errorf("%s is not a folder", r.dir)
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return err
	}
	info, err := root.Stat(".")
	if err == nil && !os.SameFile(before, info) {
		err = fmt.Errorf("%s was exchanged while it was opened", r.dir)
	}
	if err == nil {
		err = trusted(r.dir, info)
	}
	if err != nil {
		return errors.Join(err, root.Close())
	}
	r.fs = root
	return nil
}

// trusted says whether nobody but root and the caller may change what info
// describes. A member of the admin group opens root's folder to read.
func trusted(name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner is unknown", name)
	}
	if uid := int(st.Uid); uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, not to root", name, uid)
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("%s may be written by everyone (mode %04o)", name, info.Mode().Perm())
	}
	return nil
}

// makeRoot makes the folder and its parents. A parent that others may write
// would let them exchange the whole node, so it is refused.
func (r *Root) makeRoot() error {
	parents := []string{}
	for d := path.Dir(r.dir); d != "/"; d = path.Dir(d) {
		parents = append([]string{d}, parents...)
	}
	for _, d := range append(parents, r.dir) {
		info, err := os.Lstat(d)
		switch {
		case err == nil && d == r.dir:
			if info.Mode()&fs.ModeSticky != 0 && info.Mode().Perm()&0o002 != 0 {
				return fmt.Errorf("%s may be written by everyone (mode 1%03o)", d, info.Mode().Perm())
			}
			continue
		case err == nil:
			if info, err = os.Stat(d); err == nil {
				err = trusted(d, info)
			}
			if err != nil {
				return err
			}
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		mode := fs.FileMode(0o755)
		if d == r.dir {
			mode = 0o700
		}
		r.step("mkdir", d)
		if err := os.Mkdir(d, mode); err != nil {
			return err
		}
		if err := SyncPath(path.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Root) makeTree() error {
	if err := r.setMode(".", r.Passage()); err != nil {
		return err
	}
	for _, d := range openFolders() {
		if err := r.Mkdir(d, r.Passage()); err != nil {
			return err
		}
	}
	current, err := r.CurrentCerts()
	if err != nil {
		return err
	}
	for _, d := range closedFolders() {
		if d == "var/certs/1" && current > 0 {
			continue
		}
		if err := r.Mkdir(d, r.SecretFolder()); err != nil {
			return err
		}
	}
	logs := r.SecretFolder()
	if logs.GID > 0 {
		logs.Mode |= fs.ModeSetgid
	}
	if err := r.Mkdir(logFolder, logs); err != nil {
		return err
	}
	if err := r.openJournal(); err != nil {
		return err
	}
	// It may be what names the group.
	if err := r.setModeOf(settingsFile, syscall.O_NONBLOCK, r.Secret()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if current == 0 {
		if err := r.FlipCerts(1); err != nil {
			return err
		}
	}
	// Everyone may see the markers; core/lock gives its files the folder's group.
	p := r.Passage()
	p.Mode = 0o755
	return r.Mkdir(lastFolder, p)
}

func (r *Root) step(op, name string) {
	if r.opts.Step != nil {
		r.opts.Step(op, name)
	}
}
