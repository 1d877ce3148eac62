// Package lock is a node's two locks and its marker files.
//
// The locks keep mk processes of one machine apart: a holder that dies frees
// its lock by that, a child never inherits it, and who waits learns for whom.
// What a lock file says about its holder is for people; nothing is decided by
// it. Lock files are never removed: a lock on a removed file keeps nobody out.
// The locks say nothing to other nodes, and one process that takes a lock
// twice waits for itself.
package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"mk8s.io/mk/core/timer"
)

// Kind is which of the two locks.
type Kind string

// Operation is held from the first to the last step of a long change, waits
// included. Apply is held for the seconds in which this node is changed. Who
// needs both takes Operation first.
const (
	Operation Kind = "operation"
	Apply     Kind = "apply"
)

const (
	firstPause = 10 * time.Millisecond
	longPause  = 100 * time.Millisecond
	notice     = time.Second
)

// Lock is a lock that is held, until Release or the end of the process.
type Lock struct {
	file    *os.File
	release sync.Once
	err     error
}

// HeldError is returned when the context ended before the lock was free. It
// wraps why the context ended.
type HeldError struct {
	Kind   Kind
	Holder Owner
	At     time.Time // when the wait ended
	Cause  error
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("waiting for %s: %v", e.Holder.Describe(e.At), e.Cause)
}

// Unwrap is why the wait ended.
func (e *HeldError) Unwrap() error { return e.Cause }

// Acquire takes a lock of the folder dir, which must exist, and waits until it
// is free or ctx ends. After a second it calls waiting once, if not nil, with
// the holder. A lock that is free is taken even where ctx has ended.
func Acquire(ctx context.Context, dir string, kind Kind, owner Owner, waiting func(Owner)) (*Lock, error) {
	if kind != Operation && kind != Apply {
		return nil, fmt.Errorf("take lock: %q is not one of the two", kind)
	}
	name := filepath.Join(dir, string(kind))
	begun, pause := time.Now(), firstPause
	for {
		l, err := try(dir, name)
		if err == nil {
			return l, l.sign(owner)
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("take the %s lock: %w", kind, err)
		}
		if waiting != nil && time.Since(begun) >= notice {
			waiting(readOwner(name))
			waiting = nil
		}
		if !timer.Wait(ctx, pause) {
			return nil, &HeldError{Kind: kind, Holder: readOwner(name), At: time.Now(), Cause: context.Cause(ctx)}
		}
		pause = min(2*pause, longPause)
	}
}

// Release frees the lock. Further calls do nothing.
func (l *Lock) Release() error {
	l.release.Do(func() {
		// Without the holder's name first: a reader must not see one that is gone.
		if err := errors.Join(l.file.Truncate(0), l.file.Close()); err != nil {
			l.err = fmt.Errorf("release lock: %w", err)
		}
	})
	return l.err
}

// Held says whether someone holds a lock, and who, without waiting for it. It
// changes nothing, and says false for a lock that it may not look at.
func Held(dir string, kind Kind) (Owner, bool) {
	name := filepath.Join(dir, string(kind))
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Owner{}, false
	}
	defer f.Close() //nolint:errcheck // nothing was written; it frees the shared lock
	// A shared lock for an instant: whoever tries just then tries again.
	if !errors.Is(flock(f, syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		return Owner{}, false
	}
	return readOwner(name), true
}

// try takes the lock if it is free; EWOULDBLOCK if it is not. Someone may have
// replaced the file while it was opened, so the one that is locked must be the
// one that the next process will find.
func try(dir, name string) (*Lock, error) {
	for range 10 {
		f, err := openLock(dir, name)
		if err != nil {
			return nil, err
		}
		if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Lstat(name); err == nil && os.SameFile(mine, there) {
			return &Lock{file: f}, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s is replaced all the time", name)
}

// openLock opens or makes a lock file. Whoever can open it can hold it, so it
// is for root and the folder's group, if that is not root's.
func openLock(dir, name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err == nil {
		err = share(f, info, dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func share(f *os.File, info fs.FileInfo, dir string) error {
	folder, err := os.Stat(dir)
	if err != nil {
		return err
	}
	of, okFolder := folder.Sys().(*syscall.Stat_t)
	is, okFile := info.Sys().(*syscall.Stat_t)
	if !okFolder || !okFile {
		return nil
	}
	mode := fs.FileMode(0o600)
	if of.Gid != 0 {
		mode = 0o640
	}
	if is.Gid != of.Gid {
		if err := f.Chown(-1, int(of.Gid)); err != nil {
			return err
		}
	}
	if info.Mode().Perm() != mode {
		return f.Chmod(mode)
	}
	return nil
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
