package node

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// SilentError says that a path gave no answer: its disk is gone, or whoever
// serves it hangs.
type SilentError struct {
	Path  string
	After time.Duration
}

// Error names the path.
func (e *SilentError) Error() string {
	return fmt.Sprintf("%s: no answer in %s", e.Path, e.After.Round(100*time.Millisecond))
}

// Await does what touches a disk, and gives it up after limit with a
// *SilentError: a read from a disk that is gone cannot be cancelled. do says
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
