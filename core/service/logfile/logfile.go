// Package logfile keeps the log files that services write themselves: it
// opens them, reads their ends, finds the last error line and rotates them.
//
// A service has its file open as its own standard output and error, so that it
// outlives whoever started it: with a pipe, the death of the reader would kill
// the writer. The price is the way of rotating: the file is copied and then
// cut, since the writer keeps it open. Where the file system can cut off the
// front (ext4, xfs), nothing is lost; elsewhere a line written in the moment
// between copy and cut is. Files older than Keep are removed.
package logfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Limits says when a log is rotated and how many old ones stay.
type Limits struct {
	Size  int64         // bytes after which a file is rotated; default 10 MiB
	Keep  int           // old files, <name>.log.1 being the newest; default 5
	Every time.Duration // how often sizes are looked at; default 15 s
}

func (l Limits) withDefaults() Limits {
	if l.Size <= 0 {
		l.Size = 10 << 20
	}
	if l.Keep <= 0 {
		l.Keep = 5
	}
	if l.Every <= 0 {
		l.Every = 15 * time.Second
	}
	return l
}

// Path is the log file of a service in dir.
func Path(dir, service string) string { return filepath.Join(dir, service+".log") }

// Open opens the log file of a service for a child's standard output,
// creating it (0640) and its folder (0750).
func Open(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make log folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// Watch rotates every *.log file in dir that grows past its limit, until ctx
// ends. What fails is given to report and tried again at the next look.
func Watch(ctx context.Context, dir string, limits Limits, report func(error)) {
	limits = limits.withDefaults()
	tick := time.NewTicker(limits.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := RotateAll(dir, limits); err != nil {
			report(err)
		}
	}
}

// RotateAll rotates what is too large in dir, once.
func RotateAll(dir string, limits Limits) error {
	limits = limits.withDefaults()
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return fmt.Errorf("list logs in %s: %w", dir, err)
	}
	var errs []error
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || info.Size() <= limits.Size {
			continue
		}
		if err := rotate(path, limits.Keep); err != nil {
			errs = append(errs, fmt.Errorf("rotate %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

// rotate shifts the old files and moves what is in path to path.1. Killed at
// any point, at worst a piece stands in two files: the original is cut last,
// after the copy is on disk.
func rotate(path string, keep int) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer f.Close()

	tmp := path + ".rotating"
	copied, err := copyTo(tmp, f)
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	for n := keep - 1; n >= 1; n-- {
		err := os.Rename(numbered(path, n), numbered(path, n+1))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("shift old logs: %w", err)
		}
	}
	if err := os.Rename(tmp, numbered(path, 1)); err != nil {
		return fmt.Errorf("name the copy: %w", err)
	}
	return cut(f, copied)
}

func copyTo(path string, from *os.File) (int64, error) {
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return 0, fmt.Errorf("make copy: %w", err)
	}
	n, err := io.Copy(to, from)
	if err == nil {
		err = to.Sync()
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return 0, fmt.Errorf("copy: %w", err)
	}
	return n, nil
}

// block is what file systems cut off.
const block = 4096

// cut removes the first n bytes. The kernel removes whole blocks only, so the
// piece of a block at the end, already copied, stands in both files.
func cut(f *os.File, n int64) error {
	const collapse = unix.FALLOC_FL_COLLAPSE_RANGE
	if whole := n / block * block; whole > 0 {
		// A collapse may not reach the end of the file: then nothing was
		// written meanwhile past it, and truncating loses nothing.
		if info, err := f.Stat(); err == nil && info.Size() > whole {
			if unix.Fallocate(int(f.Fd()), collapse, 0, whole) == nil {
				return nil
			}
		}
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	return nil
}

func numbered(path string, n int) string { return fmt.Sprintf("%s.%d", path, n) }
