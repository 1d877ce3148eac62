package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	certsLink   = "certs"
	generations = "var/certs"
)

// CurrentCerts is the generation that the link certs names; 0 if there is no
// link yet.
func (r *Root) CurrentCerts() (int, error) {
	target, err := r.fs.Readlink(certsLink)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, r.wrap("read link", certsLink, err)
	}
	n, ok := generation(strings.TrimPrefix(target, generations+"/"))
	if !ok || target != certsFolder(n) {
		return 0, fmt.Errorf("read link %s: it leads to %q, not to %s", r.Path(certsLink), target, certsFolder(1))
	}
	return n, nil
}

// NextCerts makes generation n, not yet in use, as a copy of the current one
// with everything that people put there, and returns its folder relative to
// the root. What a killed process left under this number is dropped; the
// current generation and older ones are refused.
func (r *Root) NextCerts(n int) (string, error) {
	current, err := r.CurrentCerts()
	if err != nil {
		return "", err
	}
	dir := certsFolder(n)
	if n <= current {
		return "", fmt.Errorf("make %s: generation %d is in use", r.Path(dir), current)
	}
	if err := r.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := r.Mkdir(dir, r.SecretFolder()); err != nil {
		return "", err
	}
	if current == 0 {
		return dir, nil
	}
	return dir, r.copyFolder(certsFolder(current), dir)
}

// FlipCerts makes generation n the current one, and has programs that watch an
// older one notice. Doing it again is no error.
func (r *Root) FlipCerts(n int) error {
	dir := certsFolder(n)
	info, err := r.fs.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("it is a %s", kindOf(info.Mode()))
	}
	if err == nil {
		err = r.syncFolder(dir)
	}
	if err != nil {
		return r.wrap("switch certificates to", dir, err)
	}
	if at, err := r.fs.Lstat(certsLink); err == nil && at.Mode()&fs.ModeSymlink == 0 {
		return r.wrap("switch certificates to", dir, fmt.Errorf("%s is a %s, not a link", r.Path(certsLink), kindOf(at.Mode())))
	}
	if err := r.Symlink(dir, certsLink); err != nil {
		return err
	}
	return r.touchOld(n, time.Now())
}

// touchOld changes the times of the files in all generations but n. Programs
// watch the files that they opened, which are in a generation of then: the
// event makes them read the path again, and so the current one.
func (r *Root) touchOld(current int, now time.Time) error {
	entries, err := r.ReadDir(generations)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n, ok := generation(e.Name())
		if !ok || n == current {
			continue
		}
		files, err := r.ReadDir(certsFolder(n))
		if err != nil {
			return err
		}
		for _, f := range files {
			if !f.Type().IsRegular() {
				continue
			}
			name := certsFolder(n) + "/" + f.Name()
			r.step("touch", name)
			if err := r.fs.Chtimes(name, now, now); err != nil {
				return r.wrap("touch", name, err)
			}
		}
	}
	return nil
}

// DropCerts removes all generations but the current one and the one before it.
func (r *Root) DropCerts() error {
	current, err := r.CurrentCerts()
	if err != nil {
		return err
	}
	entries, err := r.ReadDir(generations)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n, ok := generation(e.Name())
		if !ok || n >= current-1 {
			continue
		}
		if err := r.RemoveAll(certsFolder(n)); err != nil {
			return err
		}
	}
	return nil
}

// SwitchCerts switches keys and certificates together: it copies the current
// generation, lets build change the copy (dir is relative to the root, for
// WriteFile and the like), flips the link and removes what is older than the
// generation before. If build fails, or the process dies, the current
// generation is untouched and in use.
func (r *Root) SwitchCerts(build func(dir string) error) error {
	current, err := r.CurrentCerts()
	if err != nil {
		return err
	}
	dir, err := r.NextCerts(current + 1)
	if err != nil {
		return err
	}
	if err := build(dir); err != nil {
		return errors.Join(r.wrap("build", dir, err), r.RemoveAll(dir))
	}
	if err := r.FlipCerts(current + 1); err != nil {
		return err
	}
	return r.DropCerts()
}

// copyFolder copies contents, not hard links: who edits a file in place must
// not change the generation before.
func (r *Root) copyFolder(from, to string) error {
	entries, err := r.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if IsTemporary(e.Name()) {
			continue
		}
		if err := r.Copy(path.Join(from, e.Name()), path.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Copy copies a file, a link or a folder with what is in it, each with its mode
// and owner. Of a folder that is there, files of other names stay.
func (r *Root) Copy(src, dst string) error {
	info, err := r.fs.Lstat(src)
	if err != nil {
		return r.wrap("copy", src, err)
	}
	p := permOf(info)
	switch info.Mode().Type() {
	case fs.ModeDir:
		if err := r.Mkdir(dst, p); err != nil {
			return err
		}
		return r.copyFolder(src, dst)
	case fs.ModeSymlink:
		target, err := r.Readlink(src)
		if err != nil {
			return err
		}
		return r.Symlink(target, dst)
	case 0:
		return r.copyFile(src, dst, p)
	default:
		return nil // a socket or a pipe is nobody's certificate
	}
}

func (r *Root) copyFile(src, dst string, p Perm) error {
	f, err := r.openRegular(src)
	if err != nil {
		return r.wrap("copy", src, err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(data) > MaxFile {
		err = fmt.Errorf("it is larger than %d MiB", MaxFile>>20)
	}
	if err != nil {
		return r.wrap("copy", src, err)
	}
	return r.WriteFile(dst, data, p)
}

// permOf is the mode and owner of what is there, for a copy of it.
func permOf(info fs.FileInfo) Perm {
	p := Perm{Mode: info.Mode() & settable, UID: -1, GID: -1}
	if p.Mode&fs.ModePerm == 0 {
		p.Mode = 0o600
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		p.UID, p.GID = int(st.Uid), int(st.Gid)
	}
	return p
}

func certsFolder(n int) string { return generations + "/" + strconv.Itoa(n) }

func generation(name string) (int, bool) {
	n, err := strconv.Atoi(name)
	return n, err == nil && n > 0 && strconv.Itoa(n) == name
}
