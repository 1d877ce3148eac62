package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"mk8s.io/mk/sdk/tokens"
)

const (
	maxFile = 256 << 20
	// guard is how much before the place where reading stopped is compared,
	// to notice that someone has edited the file in place.
	guard = 4 << 10
	// settled is how old a last line without a newline must be to count.
	settled = 2 * time.Second
)

// span is where a token's line stands.
type span struct {
	at   int64
	size int32
}

// file is one file of tokens, as far as this process has read it.
type file struct {
	path    string
	purpose tokens.Purpose

	open  *os.File
	seen  fs.FileInfo // when it was last looked at
	next  int64       // where the first line begins that was not read
	guard uint32      // checksum of what stands before next
	lines int
	base  *index      // what stands before base.Covers; nil where that is nothing
	index map[ID]span // what was read behind it
	tried int64       // up to here an index was written, or could not be
	plain bool        // lines are there that must be hashed
	loose bool        // the last line has no newline, and may be half written
}

// reset forgets the file.
func (f *file) reset() error {
	open := f.open
	f.base.close()
	*f = file{path: f.path, purpose: f.purpose, index: map[ID]span{}}
	if open == nil {
		return nil
	}
	return open.Close()
}

// sync reads what is new, and hashes what people wrote. It must be called
// under the lock.
func (f *file) sync(now time.Time) error {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.reset()
	}
	if err != nil {
		return err
	}
	if f.seen != nil && os.SameFile(info, f.seen) && info.Size() == f.seen.Size() && info.ModTime().Equal(f.seen.ModTime()) && !f.plain && !f.loose {
		return nil
	}
	if err := f.read(info, now); err != nil {
		return errors.Join(err, f.reset())
	}
	if f.plain {
		return f.compact(now)
	}
	return nil
}

// read indexes the file, or its new lines where the rest is as it was.
func (f *file) read(info fs.FileInfo, now time.Time) error {
	if f.open == nil || !os.SameFile(info, f.seen) || info.Size() < f.next || f.guardSum() != f.guard {
		if err := f.reset(); err != nil {
			return err
		}
		open, err := os.Open(f.path)
		if err != nil {
			return err
		}
		f.open = open
		f.useIndex(info)
	}
	// The size may have grown since; what is read is what is remembered.
	info, err := f.open.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxFile {
		return fmt.Errorf("%d bytes, at most %d are allowed", info.Size(), int64(maxFile))
	}
	f.seen, f.plain, f.loose = info, false, false
	r := bufio.NewReaderSize(io.NewSectionReader(f.open, f.next, info.Size()-f.next), 1<<20)
	for {
		line, skipped, err := readLine(r)
		if err == nil || errors.Is(err, io.EOF) && now.Sub(info.ModTime()) > settled {
			f.note(line, now)
		}
		if errors.Is(err, io.EOF) {
			f.loose = len(line) > 0
			f.guard = f.guardSum()
			if !f.plain && f.next-f.tried > tailMost {
				f.tried = f.next
				_ = f.cover() // it saves time; no token is refused for want of it
			}
			return nil
		}
		if err != nil {
			return err
		}
		f.lines++
		f.next += int64(len(line)+skipped) + 1
	}
}

// useIndex goes on behind what the index covers, where there is one and the
// text that it ends at is as it was.
func (f *file) useIndex(info fs.FileInfo) {
	base := openIndex(f.path, info)
	if base == nil {
		return
	}
	f.next = base.Covers
	if f.guardSum() != base.Guard {
		f.next = 0
		base.close()
		return
	}
	f.base, f.tried, f.lines = base, base.Covers, int(base.Lines)
}

// place is where the last line of a token stands.
func (f *file) place(id ID) (at span, known bool, err error) {
	if at, known = f.index[id]; known || f.base == nil {
		return at, known, nil
	}
	return f.base.find(id)
}

// note indexes one line.
func (f *file) note(line []byte, now time.Time) {
	if h, _, ok := split(line); ok {
		f.index[h.ID()] = span{at: f.next, size: int32(len(line))} //nolint:gosec // at most maxLine
	} else if _, ok := plain(line, f.purpose, now); ok {
		f.plain = true
	}
}

// readLine answers a line without its newline, and how much of one that is
// too long was left out. The last line without a newline comes with io.EOF.
func readLine(r *bufio.Reader) (line []byte, skipped int, err error) {
	for {
		part, err := r.ReadSlice('\n')
		whole := err == nil
		part = bytes.TrimSuffix(part, []byte("\n"))
		room := min(len(part), maxLine+1-len(line))
		line = append(line, part[:room]...)
		skipped += len(part) - room
		if whole || !errors.Is(err, bufio.ErrBufferFull) {
			return line, skipped, err
		}
	}
}

func (f *file) guardSum() uint32 {
	n := min(f.next, guard)
	b := make([]byte, n)
	if _, err := f.open.ReadAt(b, f.next-n); err != nil {
		return ^uint32(0)
	}
	return crc32.ChecksumIEEE(b)
}

// find reads the line of a token again: in memory only its place is kept.
// Where another line stands there, someone has edited the file in place; then
// all of it is read anew, once.
func (f *file) find(id ID, now time.Time) (*Record, error) {
	r, err := f.look(id)
	if !errors.Is(err, errEdited) {
		return r, err
	}
	info, err := os.Stat(f.path)
	if err = errors.Join(err, os.RemoveAll(indexPath(f.path)), f.reset()); err != nil {
		return nil, err
	}
	if err := f.read(info, now); err != nil {
		return nil, errors.Join(err, f.reset())
	}
	if f.plain {
		if err := f.compact(now); err != nil {
			return nil, err
		}
	}
	return f.look(id)
}

var errEdited = errors.New("the line of a token was changed while it was read")

func (f *file) look(id ID) (*Record, error) {
	at, ok, err := f.place(id)
	if err != nil || !ok {
		return nil, err
	}
	if at.at < 0 || at.size < 0 || at.size > maxLine {
		return nil, errEdited
	}
	line := make([]byte, at.size)
	if _, err := f.open.ReadAt(line, at.at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r, ok := decode(line)
	if !ok || r.Hash.ID() != id {
		return nil, errEdited
	}
	r.Purpose = f.purpose
	return r, nil
}

// put appends a line and waits until it is on the disk.
func (f *file) put(r *Record, now time.Time) error {
	line, err := r.encode()
	if err != nil {
		return err
	}
	if tokens := len(f.index) + f.base.entries(); f.lines > 2*tokens+256 {
		if err := f.compact(now); err != nil {
			return err
		}
	}
	if f.seen == nil {
		if err := f.replace(nil, nil); err != nil {
			return err
		}
	}
	err = f.append(line)
	if errors.Is(err, fs.ErrPermission) { // someone else's file in our folder
		if err = f.compact(now); err == nil {
			err = f.append(line)
		}
	}
	if err != nil {
		return errors.Join(err, f.reset())
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return errors.Join(err, f.reset())
	}
	return f.read(info, now)
}

func (f *file) append(line []byte) error {
	w, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	// What a process was killed over, or a person has not ended, ends here.
	if f.next < f.seen.Size() {
		line = append([]byte("\n"), line...)
	}
	_, err = w.Write(append(line, '\n'))
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}
