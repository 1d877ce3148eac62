package logfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// remembered is how much of what was read last shows that a log is still the
// same: what rotates it copies it and cuts it in place.
const remembered = 512

// followed is one log and how far it was read.
type followed struct {
	path   string
	r      *Reader
	offset int64
	before []byte // what stands right before the offset
}

// Follow gives every line that is written from now on to show, until ctx ends;
// that is no error. All logs lie in dir; readers are by path. A line that is
// being rotated away meanwhile is read from the rotated file.
func Follow(ctx context.Context, dir string, readers map[string]*Reader, show func(Entry)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the logs: %w", err)
	}
	defer w.Close()
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("watch the logs in %s: %w", dir, err)
	}
	logs := map[string]*followed{}
	for path, r := range readers {
		l := &followed{path: path, r: r}
		if err := l.begin(); err != nil {
			return err
		}
		logs[filepath.Base(path)] = l
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch the logs: %w", err)
			}
			for _, l := range logs {
				if err := l.read(show); err != nil {
					return err
				}
			}
		case e := <-w.Events:
			if l := logs[filepath.Base(e.Name)]; l != nil && e.Has(fsnotify.Write|fsnotify.Create) {
				if err := l.read(show); err != nil {
					return err
				}
			}
		}
	}
}

// begin stands at the end of the log.
func (l *followed) begin() error {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("follow a log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("follow a log: %w", err)
	}
	l.offset = info.Size()
	l.before, err = piece(f, l.offset-remembered, l.offset)
	return err
}

// read shows what is new.
func (l *followed) read(show func(Entry)) error {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("follow a log: %w", err)
	}
	defer f.Close()
	same, err := l.stands(f)
	if err != nil {
		return err
	}
	if !same {
		if err := l.rotated(f, show); err != nil {
			return err
		}
	}
	return l.readTo(f, show)
}

// stands tells whether the log has still before the offset what was read there.
func (l *followed) stands(f *os.File) (bool, error) {
	was, err := piece(f, l.offset-int64(len(l.before)), l.offset)
	return bytes.Equal(was, l.before), err
}

// rotated goes on behind a rotation: with the rest of the copy, then with the
// log where the copy ended. Where the file system can, only whole blocks are
// cut off, and the log begins with the end of the copy.
func (l *followed) rotated(f *os.File, show func(Entry)) error {
	old, err := os.Open(numbered(l.path, 1))
	if err != nil {
		l.offset, l.before = 0, nil
		return nil //nolint:nilerr // gone: what is in the log itself is all there is
	}
	defer old.Close()
	same, err := l.stands(old)
	if err != nil {
		return err
	}
	if same {
		if err := l.readTo(old, show); err != nil {
			return err
		}
	}
	info, err := old.Stat()
	if err != nil {
		return fmt.Errorf("follow a log: %w", err)
	}
	end, err := piece(old, info.Size()/block*block, info.Size())
	if err != nil {
		return err
	}
	begin, err := piece(f, 0, int64(len(end)))
	if err != nil {
		return err
	}
	l.offset, l.before = 0, nil
	if bytes.Equal(begin, end) {
		// A line that the copy has only a part of is read from here.
		whole := bytes.LastIndexByte(end, '\n') + 1
		l.offset, l.before = int64(whole), end[max(0, whole-remembered):whole]
	}
	return nil
}

// readTo shows the whole lines from the offset on.
func (l *followed) readTo(f *os.File, show func(Entry)) error {
	for {
		data, err := piece(f, l.offset, l.offset+1<<20)
		if err != nil {
			return err
		}
		end := bytes.LastIndexByte(data, '\n') + 1
		if end == 0 && len(data) >= 1<<20 { // one line that never ends
			end = len(data)
		}
		if end == 0 {
			return nil
		}
		for line := range bytes.Lines(data[:end]) {
			show(l.r.Entry(string(bytes.TrimRight(line, "\r\n"))))
		}
		l.offset += int64(end)
		l.before = append(l.before, data[:end]...)
		l.before = bytes.Clone(l.before[max(0, len(l.before)-remembered):])
	}
}

// piece is what stands between two offsets, as far as it is there.
func piece(f *os.File, from, to int64) ([]byte, error) {
	from = max(from, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, from, to-from))
	if err != nil {
		return nil, fmt.Errorf("follow a log: %w", err)
	}
	return data, nil
}
