package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxProgram bounds a plugin's program: larger ones are no plugins.
const maxProgram = 512 << 20

var errTooLarge = fmt.Errorf("its program is larger than %d MiB", maxProgram>>20)

// IntegrityError says that a program is not the one that was installed.
type IntegrityError struct {
	Path string
	Want string
	Got  string
}

// Error names both digests.
func (e *IntegrityError) Error() string {
	return fmt.Sprintf("its program is not the one that was installed: sha256 is %.12s…, the lock file says %.12s… (%s)",
		strings.TrimPrefix(e.Got, "sha256:"), strings.TrimPrefix(e.Want, "sha256:"), e.Path)
}

// openProgram is the program that was installed, such that nobody can change
// it before it runs: the file itself where it can be held, or a sealed copy.
// A script runs from the store, which nobody but root can change; then the file
// is nil. The path is the program's, free of symbolic links where it is a script.
func openProgram(s Spec, known *receipts) (*os.File, string, error) {
	src, err := openRegular(s.Program)
	if err != nil {
		return nil, "", err
	}
	script, err := startsScript(src)
	if err == nil && !script && known != nil && hold(src) {
		if err := known.compare(src, s.Digest, time.Now()); err != nil {
			return nil, "", errors.Join(err, src.Close())
		}
		return src, s.Program, nil // stays open, and so held, until it runs
	}
	defer src.Close() //nolint:errcheck // only read
	if err != nil {
		return nil, "", err
	}
	if !script {
		f, err := sealedCopy(src, s.Digest)
		return f, s.Program, err
	}
	path, err := checkScript(s)
	return nil, path, err
}

// startsScript reports whether a program needs an interpreter.
func startsScript(src *os.File) (bool, error) {
	var head [2]byte
	if _, err := src.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read its program: %w", err)
	}
	return string(head[:]) == "#!", nil
}

// checkScript checks a program that needs an interpreter. The kernel hands the
// interpreter a path, and that of a closed-on-exec copy in memory is gone by
// then, so scripts run from the store. What cannot be changed is compared after
// that was made sure of.
func checkScript(s Spec) (string, error) {
	path, err := filepath.EvalSymlinks(s.Program)
	if err != nil {
		return "", fmt.Errorf("find its program: %w", err)
	}
	dir, err := filepath.EvalSymlinks(s.Dir)
	if err != nil {
		return "", fmt.Errorf("find its folder: %w", err)
	}
	if err := errors.Join(strict(path), strict(dir)); err != nil {
		return "", err
	}
	if err := strictTree(dir); err != nil {
		return "", err
	}
	if s.Whole != nil {
		if err := s.Whole(); err != nil {
			return "", err
		}
	}
	src, err := openRegular(path)
	if err != nil {
		return "", err
	}
	defer src.Close() //nolint:errcheck // only read
	sum := sha256.New()
	if err := copyBounded(sum, src); err != nil {
		return "", err
	}
	return path, compare(path, s.Digest, sum)
}

// openRegular opens a file, and nothing that could block or lead elsewhere.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open its program: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err == nil && info.Size() > maxProgram {
		err = errTooLarge
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open its program: %w", err), f.Close())
	}
	return f, nil
}

// compare compares a file that is held with its digest, unless that was done
// since it last changed.
func (r *receipts) compare(src *os.File, want string, now time.Time) error {
	mark := stamp(src, now)
	if r.has(want, mark) {
		return nil
	}
	sum := sha256.New()
	if err := copyBounded(sum, src); err != nil {
		return err
	}
	if err := compare(src.Name(), want, sum); err != nil {
		return err
	}
	r.put(want, mark)
	return nil
}

func compare(path, want string, sum hash.Hash) error {
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != want {
		return &IntegrityError{Path: path, Want: want, Got: got}
	}
	return nil
}

// sealedCopy copies a program into memory while hashing it, compares the
// digest, and seals the copy: what was checked is what runs, whatever happens
// to the file afterwards. The result is open for reading only and closed on
// exec.
func sealedCopy(src *os.File, want string) (*os.File, error) {
	fd, err := unix.MemfdCreate("mk-plugin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("keep a copy of its program in memory: %w", err)
	}
	mem := os.NewFile(uintptr(fd), "mk-plugin") //nolint:gosec // a descriptor
	defer mem.Close()                           //nolint:errcheck // reopened below
	sum := sha256.New()
	if err := copyBounded(&alongside{File: mem, sum: sum}, src); err != nil {
		return nil, err
	}
	if err := compare(src.Name(), want, sum); err != nil {
		return nil, err
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil { //nolint:gosec // a descriptor
		return nil, fmt.Errorf("seal the copy of its program: %w", err)
	}
	// A memfd that is open for writing cannot be executed (ETXTBSY).
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("reopen the copy of its program: %w", err)
	}
	return ro, nil
}

// copyBounded copies a program that is not too large.
func copyBounded(dst io.Writer, src io.Reader) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{dst}, io.LimitReader(src, maxProgram+1), make([]byte, 1<<20))
	if err != nil {
		return fmt.Errorf("copy its program: %w", err)
	}
	if n > maxProgram {
		return errTooLarge // it grew
	}
	return nil
}

// alongside hashes the same bytes that it writes, at the same time.
type alongside struct {
	*os.File
	sum hash.Hash
}

// Write writes and hashes p.
func (a *alongside) Write(p []byte) (int, error) {
	hashed := make(chan struct{})
	go func() {
		_, _ = a.sum.Write(p) // a hash never fails
		close(hashed)
	}()
	n, err := a.File.Write(p)
	<-hashed
	return n, err
}
