package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxProgram bounds a plugin's program: larger ones are no plugins.
const maxProgram = 512 << 20

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

// sealedCopy copies a program into memory while hashing it, compares the
// digest, and seals the copy: what was checked is what runs, whatever happens
// to the file afterwards. The result is open for reading only and closed on
// exec.
func sealedCopy(path, want string) (*os.File, error) {
	src, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open its program: %w", err)
	}
	defer src.Close() //nolint:errcheck // only read
	fd, err := unix.MemfdCreate("mk-plugin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("keep a copy of its program in memory: %w", err)
	}
	mem := os.NewFile(uintptr(fd), "mk-plugin")
	defer mem.Close() //nolint:errcheck // reopened below
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(mem, sum), io.LimitReader(src, maxProgram+1))
	if err != nil {
		return nil, fmt.Errorf("copy its program: %w", err)
	}
	if n > maxProgram {
		return nil, fmt.Errorf("its program is larger than %d MiB", maxProgram>>20)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != want {
		return nil, &IntegrityError{Path: path, Want: want, Got: got}
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal the copy of its program: %w", err)
	}
	// A memfd that is open for writing cannot be executed (ETXTBSY).
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("reopen the copy of its program: %w", err)
	}
	return ro, nil
}

// isScript reports whether a program needs an interpreter. The kernel hands
// the interpreter a path, and that of a closed-on-exec copy in memory is gone
// by then, so scripts run from the store.
func isScript(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("open its program: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	var head [2]byte
	if _, err := io.ReadFull(f, head[:]); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read its program: %w", err)
	}
	return string(head[:]) == "#!", nil
}
