package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// Temporary names begin with these, beside the file they are for. A tree's
// Digest leaves them out.
const (
	tempPrefix   = ".mk-"
	writePrefix  = tempPrefix + "write-"
	stagedPrefix = tempPrefix + "staged-"
)

// IsTemporary says whether a file's name is one that Stage or a write gives to
// contents that are not yet in their place.
func IsTemporary(name string) bool { return strings.HasPrefix(path.Base(name), tempPrefix) }

// WriteFile gives a file its content, mode and owner at once: a reader sees
// the old file or the new one, and after a crash there is one of them. The
// folder must exist. On an error the old file is as it was.
func (r *Root) WriteFile(name string, data []byte, p Perm) error {
	return r.WriteStream(name, p, whole(data))
}

// WriteFile is Root.WriteFile for a file that need not be in a node's folder: a
// unit of systemd's, for one.
func WriteFile(path string, data []byte, p Perm) error {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	r := &Root{dir: filepath.Dir(path), fs: dir}
	return errors.Join(r.WriteFile(filepath.Base(path), data, p), dir.Close())
}

// Stage writes the content for name beside it, durable, with its final mode
// and owner, and returns the name it has until Commit. On an error nothing is
// left.
func (r *Root) Stage(name string, data []byte, p Perm) (string, error) {
	staged, err := r.writeTemp(stagedPrefix, name, p, whole(data))
	if err == nil {
		err = r.syncFolder(path.Dir(name))
	}
	return staged, r.wrap("stage", name, err)
}

// Commit puts what Stage wrote in its place. Where it was put there before,
// the error is fs.ErrNotExist; Digest tells whether that is the case.
func (r *Root) Commit(staged, name string) error {
	if !strings.HasPrefix(path.Base(staged), stagedPrefix) || path.Dir(staged) != path.Dir(name) {
		return fmt.Errorf("commit %s: %s is not staged beside it", r.Path(name), staged)
	}
	return r.Rename(staged, name)
}

// LinkOld gives the file name, as it is, a second name, so that it can be
// taken back by Rename. Doing it again is no error as long as both are the
// same file.
func (r *Root) LinkOld(name, as string) error {
	if err := checkNames(name, as); err != nil {
		return r.wrap("keep", name, err)
	}
	old, err := r.fs.Lstat(name)
	if err != nil {
		return r.wrap("keep", name, err)
	}
	if there, err := r.fs.Lstat(as); err == nil && os.SameFile(old, there) {
		return r.wrap("keep", name, r.syncFolder(path.Dir(as)))
	}
	r.step("link", as)
	if err := r.fs.Link(name, as); err != nil {
		return r.wrap("keep", name, err)
	}
	return r.wrap("keep", name, r.syncFolder(path.Dir(as)))
}

// Rename moves a file or folder, replacing a file of the new name.
func (r *Root) Rename(from, to string) error {
	if err := checkNames(from, to); err != nil {
		return r.wrap("rename", from, err)
	}
	a, errA := r.fs.Lstat(from)
	b, errB := r.fs.Lstat(to)
	if errA == nil && errB == nil && from != to && os.SameFile(a, b) {
		// Two names of one file: rename(2) would do nothing and leave both.
		return r.Remove(from)
	}
	r.step("rename", to)
	if err := r.fs.Rename(from, to); err != nil {
		return r.wrap("rename", from, err)
	}
	err := r.syncFolder(path.Dir(to))
	if path.Dir(from) != path.Dir(to) {
		err = errors.Join(err, r.syncFolder(path.Dir(from)))
	}
	return r.wrap("rename", from, err)
}

// Remove removes a file, a link or an empty folder.
func (r *Root) Remove(name string) error {
	if err := checkNames(name); err != nil {
		return r.wrap("remove", name, err)
	}
	r.step("remove", name)
	if err := r.fs.Remove(name); err != nil {
		return r.wrap("remove", name, err)
	}
	return r.wrap("remove", name, r.syncFolder(path.Dir(name)))
}

// RemoveAll removes a file or a folder with all that is in it, links not
// followed; a name that is not there is no error. It crosses mounts: whoever
// wipes a node unmounts first. On an error part of the folder may be gone.
func (r *Root) RemoveAll(name string) error {
	if err := checkNames(name); err != nil {
		return r.wrap("remove", name, err)
	}
	info, err := r.fs.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return r.wrap("remove", name, err)
	}
	if info.IsDir() {
		entries, err := r.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := r.RemoveAll(path.Join(name, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := r.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Mkdir makes a folder, or gives the one that is there its mode and owner. A
// new one is for root alone until it has them. Its parent must exist.
func (r *Root) Mkdir(name string, p Perm) error {
	if err := errors.Join(checkNames(name), p.check()); err != nil {
		return r.wrap("make folder", name, err)
	}
	info, err := r.fs.Lstat(name)
	if err == nil && !info.IsDir() {
		return r.wrap("make folder", name, fmt.Errorf("it is a %s", kindOf(info.Mode())))
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.step("mkdir", name)
		if err = r.fs.Mkdir(name, 0o700); err == nil {
			err = r.syncFolder(path.Dir(name))
		}
	}
	if err != nil {
		return r.wrap("make folder", name, err)
	}
	return r.setMode(name, p)
}

// MkdirAll makes a folder and those above it that are missing, which get the
// same mode and owner; those that are there stay as they are.
func (r *Root) MkdirAll(name string, p Perm) error {
	if parent := path.Dir(name); parent != "." {
		if _, err := r.fs.Stat(parent); errors.Is(err, fs.ErrNotExist) {
			if err := r.MkdirAll(parent, p); err != nil {
				return err
			}
		}
	}
	return r.Mkdir(name, p)
}

// Symlink makes name a link to target, replacing a file or link at once.
func (r *Root) Symlink(target, name string) error {
	if err := checkNames(name); err != nil {
		return r.wrap("link", name, err)
	}
	if target == "" || strings.ContainsRune(target, 0) {
		return r.wrap("link", name, fmt.Errorf("%q is not a target", target))
	}
	temp := tempName(writePrefix, name)
	r.step("symlink", temp)
	if err := r.fs.Symlink(target, temp); err != nil {
		return r.wrap("link", name, err)
	}
	r.step("rename", name)
	if err := r.fs.Rename(temp, name); err != nil {
		return r.wrap("link", name, errors.Join(err, r.fs.Remove(temp)))
	}
	return r.wrap("link", name, r.syncFolder(path.Dir(name)))
}

// Sweep removes from a folder what writes that were killed have left. Only
// who holds the apply lock may call it. Staged contents stay: their journal
// knows them.
func (r *Root) Sweep(folder string) error {
	entries, err := r.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), writePrefix) {
			if err := r.Remove(path.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// whole writes data.
func whole(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// writeTemp writes under a temporary name beside name. The file has its final
// owner and mode before its first byte, and never more than that.
func (r *Root) writeTemp(prefix, name string, p Perm, write func(io.Writer) error) (string, error) {
	if err := errors.Join(checkNames(name), p.check()); err != nil {
		return "", err
	}
	temp := tempName(prefix, name)
	r.step("create", temp)
	f, err := r.fs.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", err
	}
	if p.UID != -1 || p.GID != -1 {
		r.step("chown", temp)
		err = f.Chown(p.UID, p.GID)
	}
	if err == nil {
		r.step("chmod", temp)
		err = f.Chmod(p.Mode)
	}
	if err == nil {
		r.step("write", temp)
		err = write(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, r.fs.Remove(temp))
	}
	return temp, nil
}

// setMode changes the owner before the mode, so that the new mode never
// applies to the old group.
func (r *Root) setMode(name string, p Perm) error { return r.setModeOf(name, syscall.O_DIRECTORY, p) }

func (r *Root) setModeOf(name string, kind int, p Perm) error {
	f, err := r.fs.OpenFile(name, os.O_RDONLY|kind|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return r.wrap("set mode of", name, err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return r.wrap("set mode of", name, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || (p.UID != -1 && p.UID != int(st.Uid)) || (p.GID != -1 && p.GID != int(st.Gid)) {
		r.step("chown", name)
		if err := f.Chown(p.UID, p.GID); err != nil {
			return r.wrap("set owner of", name, err)
		}
	}
	if info.Mode()&settable != p.Mode {
		r.step("chmod", name)
		if err := f.Chmod(p.Mode); err != nil {
			return r.wrap("set mode of", name, err)
		}
	}
	return nil
}

func (r *Root) syncFolder(name string) error {
	f, err := r.fs.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// SyncPath has what a folder, or a file, holds reach the disk.
func SyncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (r *Root) wrap(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, r.Path(name), err)
}

// checkNames refuses what is not a plain relative path, and the root itself.
func checkNames(names ...string) error {
	for _, n := range names {
		if !fs.ValidPath(n) || n == "." || strings.ContainsRune(n, 0) {
			return fmt.Errorf("%q is not a path below the root folder", n)
		}
	}
	return nil
}

// tempName keeps the end of long names away: a name may have 255 bytes.
func tempName(prefix, name string) string {
	base := path.Base(name)
	return path.Join(path.Dir(name), prefix+rand.Text()[:10]+"-"+base[:min(len(base), 200)])
}

func kindOf(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "folder"
	case fs.ModeSymlink:
		return "symbolic link"
	case fs.ModeNamedPipe:
		return "pipe"
	case fs.ModeSocket:
		return "socket"
	default:
		return "device"
	}
}
