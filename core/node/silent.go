package node

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// SilentError says that a path gave no answer: its disk is gone, or whoever
// serves it hangs.
type SilentError struct {
	Path  string
	After time.Duration
	Err   error // what the disk answered instead; nil where it did not
}

// Error names the path.
func (e *SilentError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("%s: no answer in %s", e.Path, e.After.Round(100*time.Millisecond))
}

// Unwrap gives what the disk answered.
func (e *SilentError) Unwrap() error { return e.Err }

// lost reports whether an error says that a disk is gone.
func lost(err error) (syscall.Errno, bool) {
	e, is := errors.AsType[syscall.Errno](err)
	return e, is && slices.Contains([]syscall.Errno{syscall.EIO, syscall.ENOTCONN, syscall.ESTALE, syscall.ENODEV, syscall.ENXIO}, e)
}

// Await does what touches a disk, and gives it up after limit with a
// *SilentError: a read from a disk that is gone cannot be cancelled. One that
// says that it is gone has the same end. do says
// at which path it is; path is the first one. Where do is given up and comes to
// an end later, late gets what it made, to release it.
func Await[T any](limit time.Duration, path string, do func(at func(path string)) (T, error), late func(T)) (T, error) {
	var where atomic.Pointer[string]
	where.Store(&path)
	type result struct {
		value T
		err   error
	}
	done := make(chan result)
	left := make(chan struct{})
	go func() {
		value, err := do(func(p string) { where.Store(&p) })
		select {
		case done <- result{value, err}:
		case <-left:
			if err == nil {
				late(value)
			}
		}
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case r := <-done:
		if e, is := lost(r.err); is {
			r.err = &SilentError{Path: *where.Load(), Err: e}
		}
		return r.value, r.err
	case <-t.C:
		close(left)
		var none T
		return none, &SilentError{Path: *where.Load(), After: limit}
	}
}

// Unopened is a Root of which only the path methods can be used; all others
// fail with os.ErrClosed and touch no disk.
func Unopened(dir string) (*Root, error) {
	closed, err := os.OpenRoot("/")
	if err != nil {
		return nil, fmt.Errorf("name the node at %s: %w", dir, err)
	}
	if err := closed.Close(); err != nil {
		return nil, fmt.Errorf("name the node at %s: %w", dir, err)
	}
	return &Root{dir: dir, fs: closed}, nil
}
