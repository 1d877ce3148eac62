// Package folder gives a folder of files one digest and copies folders that
// strangers made: only plain files and folders, bounded in number and size,
// hashed while they are copied, so that what was checked is what was stored.
//
// # The digest
//
// The digest is the SHA-256 of a text in UTF-8:
//
//	mk folder 1\n
//	d PATH\n                       for each folder
//	f MODE SIZE SHA256 PATH\n      for each file
//
// one line for everything below the folder, sorted by the bytes of PATH. PATH is
// relative, its elements parted by "/", without leading "./"; the folder itself
// has no line. MODE is "x" where the owner may execute the file, else "-"; SIZE
// is in bytes, decimal; SHA256 is that of the content in lower-case hex. Owners,
// times and other permissions are not part of it. Links, devices, sockets, pipes
// and names with control characters have no place in it: such a folder has no
// digest.
package folder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// ErrHostile marks what no plugin's folder holds without bad intentions, or
// what is larger than allowed.
var ErrHostile = errors.New("folder refused")

// Limits bound what is read.
type Limits struct {
	Entries int   // files and folders
	Bytes   int64 // of all files
	Path    int   // bytes of the longest relative path
}

// DefaultLimits are those of plugins.
func DefaultLimits() Limits { return Limits{Entries: 10_000, Bytes: 1 << 30, Path: 1024} }

// Entry is one file or folder.
type Entry struct {
	Path       string
	Folder     bool
	Executable bool
	Size       int64
	SHA256     string
}

// Tree is all that a folder holds, sorted by path.
type Tree struct{ Entries []Entry }

// Digest is "sha256:" and the digest in hex; see the package comment.
func (t Tree) Digest() string {
	h := sha256.New()
	io.WriteString(h, "mk folder 1\n")
	for _, e := range t.Entries {
		if e.Folder {
			fmt.Fprintf(h, "d %s\n", e.Path)
			continue
		}
		mode := "-"
		if e.Executable {
			mode = "x"
		}
		fmt.Fprintf(h, "f %s %s %s %s\n", mode, strconv.FormatInt(e.Size, 10), e.SHA256, e.Path)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// File finds a file by its path.
func (t Tree) File(p string) (Entry, bool) {
	i := slices.IndexFunc(t.Entries, func(e Entry) bool { return e.Path == p && !e.Folder })
	if i < 0 {
		return Entry{}, false
	}
	return t.Entries[i], true
}

// Read hashes a folder without changing it.
func Read(ctx context.Context, dir *os.Root, limits Limits) (Tree, error) {
	w := walker{ctx: ctx, from: dir, limits: limits}
	return w.run()
}

// Copy copies a folder into another, empty one and answers what was copied.
// Files get mode 0444 or 0555 and are synced, as are folders, which keep 0755:
// Seal makes them read-only. After an error what was copied so far is left for
// the caller to remove.
func Copy(ctx context.Context, from, to *os.Root, limits Limits) (Tree, error) {
	w := walker{ctx: ctx, from: from, to: to, limits: limits}
	return w.run()
}

// walker reads a tree that may change under its feet: every file is judged by
// what was opened, never by what was listed.
type walker struct {
	ctx      context.Context
	from, to *os.Root // to is nil where nothing is copied
	limits   Limits
	tree     Tree
	bytes    int64
	buffer   []byte
}

func (w *walker) run() (Tree, error) {
	w.buffer = make([]byte, 256<<10)
	if err := w.folder("."); err != nil {
		return Tree{}, err
	}
	slices.SortFunc(w.tree.Entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return w.tree, nil
}

func (w *walker) folder(p string) error {
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("reading folder %s: %w", p, err)
	}
	d, err := w.open(p, syscall.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		list, err := d.ReadDir(256)
		for _, e := range list {
			if err := w.entry(path.Join(p, e.Name()), e.Name(), e.Type()); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading folder %s: %w", p, err)
		}
	}
	if w.to == nil {
		return nil
	}
	return syncFolder(w.to, p)
}

func (w *walker) entry(p, name string, kind fs.FileMode) error {
	if err := w.name(p, name); err != nil {
		return err
	}
	if len(w.tree.Entries) >= w.limits.Entries {
		return fmt.Errorf("%w: it holds more than %d files", ErrHostile, w.limits.Entries)
	}
	switch {
	case kind.IsDir():
		w.tree.Entries = append(w.tree.Entries, Entry{Path: p, Folder: true})
		if w.to != nil {
			if err := w.to.Mkdir(p, 0o755); err != nil {
				return fmt.Errorf("copying folder %s: %w", p, err)
			}
		}
		return w.folder(p)
	case kind.IsRegular():
		return w.file(p)
	}
	return fmt.Errorf("%w: %s is a %s; only files and folders are allowed", ErrHostile, p, kindName(kind))
}

func (w *walker) name(p, name string) error {
	bad := !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\\'
	})
	switch {
	case bad:
		return fmt.Errorf("%w: the name %q holds characters that are not allowed", ErrHostile, p)
	case len(p) > w.limits.Path:
		return fmt.Errorf("%w: a path is longer than %d bytes: %.60s…", ErrHostile, w.limits.Path, p)
	}
	return nil
}

func kindName(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

// open never blocks on a pipe and never follows a link that took the place of
// what was listed.
func (w *walker) open(p string, flag int) (*os.File, error) {
	f, err := w.from.OpenFile(p, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|flag, 0)
	switch {
	case errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR):
		return nil, fmt.Errorf("%w: %s changed while it was read", ErrHostile, p)
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", p, err)
	}
	return f, nil
}

func (w *walker) file(p string) error {
	in, err := w.open(p, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("reading %s: %w", p, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s changed while it was read", ErrHostile, p)
	}
	if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		return fmt.Errorf("%w: %s has the setuid or setgid bit", ErrHostile, p)
	}
	if info.Size() > w.limits.Bytes-w.bytes {
		return fmt.Errorf("%w: it is larger than %d bytes", ErrHostile, w.limits.Bytes)
	}
	e := Entry{Path: p, Executable: info.Mode()&0o100 != 0}
	h := sha256.New()
	if e.Size, err = w.content(in, p, h, e.Executable); err != nil {
		return err
	}
	e.SHA256 = hex.EncodeToString(h.Sum(nil))
	w.bytes += e.Size
	w.tree.Entries = append(w.tree.Entries, e)
	return nil
}

// content reads one file to its end, and no further than the limit allows
// however much it grows meanwhile.
func (w *walker) content(in *os.File, p string, h hash.Hash, executable bool) (int64, error) {
	var out io.Writer = h
	if w.to != nil {
		f, err := w.to.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return 0, fmt.Errorf("copying %s: %w", p, err)
		}
		defer f.Close()
		out = io.MultiWriter(h, f)
		n, err := w.stream(out, in, p)
		if err != nil {
			return 0, err
		}
		mode := fs.FileMode(0o444)
		if executable {
			mode = 0o555
		}
		if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
			return 0, fmt.Errorf("copying %s: %w", p, err)
		}
		return n, nil
	}
	return w.stream(out, in, p)
}

func (w *walker) stream(out io.Writer, in io.Reader, p string) (int64, error) {
	left := w.limits.Bytes - w.bytes
	var n int64
	for {
		if err := w.ctx.Err(); err != nil {
			return 0, fmt.Errorf("reading %s: %w", p, err)
		}
		k, err := in.Read(w.buffer)
		if n += int64(k); n > left {
			return 0, fmt.Errorf("%w: it is larger than %d bytes", ErrHostile, w.limits.Bytes)
		}
		if _, e := out.Write(w.buffer[:k]); e != nil {
			return 0, fmt.Errorf("copying %s: %w", p, e)
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", p, err)
		}
	}
}

func syncFolder(r *os.Root, p string) error {
	d, err := r.Open(p)
	if err != nil {
		return fmt.Errorf("syncing folder %s: %w", p, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing folder %s: %w", p, err)
	}
	return nil
}

// Seal takes the right to write from the folders of a copied tree; its files
// have none.
func Seal(dir *os.Root, t Tree) error {
	for _, e := range slices.Backward(t.Entries) {
		if !e.Folder {
			continue
		}
		if err := dir.Chmod(e.Path, 0o555); err != nil {
			return fmt.Errorf("sealing folder %s: %w", e.Path, err)
		}
	}
	if err := dir.Chmod(".", 0o555); err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	return nil
}

// Remove removes a folder by name below parent, sealed or not. It follows no
// links; one that is not there is no error.
func Remove(parent *os.Root, name string) error {
	err := fs.WalkDir(parent.FS(), name, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			return parent.Chmod(p, 0o700)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err = errors.Join(err, parent.RemoveAll(name)); err != nil {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	return nil
}
