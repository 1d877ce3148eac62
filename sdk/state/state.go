// Package state keeps what a plugin must remember, in its state folder: JSON
// files that are replaced as a whole under a lock that holds across processes
// (several of one plugin may run at once), and answers that are given again
// when a question is asked again. A process killed at any instruction leaves
// the old files or the new ones, also where one change writes several; of
// answers that are not synced the last one may be lost. Files are 0600 and at
// most 8 MiB.
package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// MaxSize is how large one file may be.
const MaxSize = 8 << 20

const (
	lockName  = ".lock"
	tempForm  = ".new-*"
	lockRetry = 5 * time.Millisecond
)

// Dir is a plugin's state folder.
type Dir struct {
	path string
	turn chan struct{} // holds one: within a process waiting costs nothing
	read []byte        // what jots reads into; who has the lock may use it
}

// Open uses a folder, which Configure named; it is made 0700 if it is missing.
func Open(path string) (*Dir, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("state folder %q is not absolute", path)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	return &Dir{path: path, turn: make(chan struct{}, 1)}, nil
}

// Path is where a file of this folder lies.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// nameForm is compiled when it is first used: mk's own commands hardly do.
var nameForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`) })

// Lock holds the folder until the returned function is called. It waits until
// the context ends. It is not reentrant: under it only Read may be called.
func (d *Dir) Lock(ctx context.Context) (unlock func(), err error) {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the state's lock: %w", ctx.Err())
	}
	free, err := d.lock(ctx)
	if err != nil {
		<-d.turn
		return nil, err
	}
	unlock = sync.OnceFunc(func() { free(); <-d.turn })
	if err := d.recover(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (d *Dir) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(d.Path(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the state: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking the state: %w", err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for the state's lock: %w", ctx.Err()), f.Close())
		case <-time.After(lockRetry):
		}
	}
}

// Read reads a file without the lock: it sees the last whole one. A file that
// is not there yet leaves v as it is.
func (d *Dir) Read(name string, v any) error {
	b, err := d.text(name)
	if err != nil || b == nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("reading %s: %w", d.Path(name), err)
	}
	return nil
}

// text is a whole file, or nil where there is none yet.
func (d *Dir) text(name string) ([]byte, error) {
	if !nameForm().MatchString(name) {
		return nil, fmt.Errorf("state file %q is not a name", name)
	}
	f, err := os.Open(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the state: %w", err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("state file %s has more than %d bytes", f.Name(), MaxSize)
	}
	return b, nil
}

// Update changes one file: under the lock it is read into v, f changes v, and v
// replaces the file. An error of f changes nothing and is returned as it is.
func (d *Dir) Update(ctx context.Context, name string, v any, f func() error) error {
	return d.Change(ctx, func(l *Locked) error {
		if err := l.Read(name, v); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
		return l.Write(name, v)
	})
}

// replace puts a file in place as a whole; unsynced, a machine that ends may
// leave it empty.
func (d *Dir) replace(name string, b []byte, unsynced bool) error {
	f, err := os.CreateTemp(d.path, tempForm) // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && !unsynced {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), d.Path(name))
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(f.Name())))
	}
	if unsynced {
		return nil
	}
	return d.sync()
}

func (d *Dir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Clear removes everything but the lock: what Forget does. Doing it again is
// no error.
func (d *Dir) Clear(ctx context.Context) error {
	unlock, err := d.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("clearing the state: %w", err)
	}
	var faults []error
	for _, e := range entries {
		if e.Name() != lockName {
			faults = append(faults, os.RemoveAll(d.Path(e.Name())))
		}
	}
	if err := errors.Join(append(faults, d.sync())...); err != nil {
		return fmt.Errorf("clearing the state: %w", err)
	}
	return nil
}
