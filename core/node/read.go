package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// MaxFile is the most that ReadFile reads.
const MaxFile = 16 << 20

// Absent is the Digest of what is not there.
const Absent = "absent"

// ReadFile reads a regular file of at most MaxFile bytes. A pipe, a device or
// a socket put in its place is an error, not a wait.
func (r *Root) ReadFile(name string) ([]byte, error) {
	f, err := r.openRegular(name)
	if err != nil {
		return nil, r.wrap("read", name, err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, r.wrap("read", name, err)
	}
	if len(data) > MaxFile {
		return nil, r.wrap("read", name, fmt.Errorf("it is larger than %d MiB", MaxFile>>20))
	}
	return data, nil
}

// Stat describes a file, links followed as far as they stay below the root.
func (r *Root) Stat(name string) (fs.FileInfo, error) {
	info, err := r.fs.Stat(name)
	return info, r.wrap("look at", name, err)
}

// Lstat describes a file, a link itself.
func (r *Root) Lstat(name string) (fs.FileInfo, error) {
	info, err := r.fs.Lstat(name)
	return info, r.wrap("look at", name, err)
}

// Readlink is the text of a link.
func (r *Root) Readlink(name string) (string, error) {
	target, err := r.fs.Readlink(name)
	return target, r.wrap("read link", name, err)
}

// ReadDir lists a folder, sorted by name.
func (r *Root) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(r.fs.FS(), name)
	return entries, r.wrap("list", name, err)
}

// Digest tells whether name is still what it was: "absent"; "sha256:<hex>"
// over a file's content, or over names, kinds and contents of a folder's tree
// (temporary files left out); "link:<target>" for a link. Modes and owners do
// not count.
func (r *Root) Digest(name string) (string, error) {
	if err := checkNames(name); err != nil {
		return "", r.wrap("digest", name, err)
	}
	d, err := r.digest(name)
	return d, r.wrap("digest", name, err)
}

func (r *Root) digest(name string) (string, error) {
	info, err := r.fs.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Absent, nil
	}
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		target, err := r.fs.Readlink(name)
		return "link:" + target, err
	case fs.ModeDir:
		entries, err := fs.ReadDir(r.fs.FS(), name)
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			if IsTemporary(e.Name()) {
				continue
			}
			d, err := r.digest(path.Join(name, e.Name()))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(sum, "%s %q %q\n", kindOf(e.Type()), e.Name(), d)
		}
	case 0:
		f, err := r.openRegular(name)
		if errors.Is(err, fs.ErrNotExist) {
			return Absent, nil
		}
		if err != nil {
			return "", err
		}
		defer f.Close() //nolint:errcheck // nothing was written
		if _, err := io.Copy(sum, f); err != nil {
			return "", err
		}
	default:
		// A socket or a pipe has no content to compare.
		return strings.ReplaceAll(kindOf(info.Mode()), " ", "-"), nil
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// openRegular does not block on a pipe that someone put there.
func (r *Root) openRegular(name string) (*os.File, error) {
	f, err := r.fs.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("it is a %s, not a file", kindOf(info.Mode()))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
