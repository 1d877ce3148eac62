package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"syscall"
)

// tailMost is how much of a file may stand behind what its index covers: so
// much a process reads before it answers. It is about a thousand claims.
const tailMost = 256 << 10

// stamp says which file an index is of, and how much of that it covers.
type stamp struct {
	Magic    [16]byte
	Inode    uint64
	Covers   int64  // the index knows every line that begins before this
	Guard    uint32 // as in file, at Covers
	Lines    uint32
	Entries  uint32
	Checksum uint32 // of what stands before
}

// entry is where a token's last line stands. Entries are sorted by ID.
type entry struct {
	ID   ID
	At   int64
	Size int32
}

const indexMagic = "mk token index 1"

// index is the places of a file's tokens in a file beside it, so that a new
// process need not read all of them. It may be missing or old: then the file
// itself is read. What it says of a token is believed only if that token's
// line stands there. It does not change once it is written.
type index struct {
	stamp
	open *os.File
}

func indexPath(of string) string {
	return filepath.Join(filepath.Dir(of), "."+filepath.Base(of)+".index")
}

// inode tells a file from others that had or will have its name.
func inode(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}

// openIndex answers nil where there is none that is good for this file.
func openIndex(of string, info fs.FileInfo) *index {
	open, err := os.Open(indexPath(of))
	if err != nil {
		return nil
	}
	i := &index{open: open}
	if !i.load() || i.Inode != inode(info) || i.Covers > info.Size() {
		i.close()
		return nil
	}
	return i
}

// close gives the file back, of which nothing was written.
func (i *index) close() {
	if i != nil {
		_ = i.open.Close()
	}
}

func (i *index) entries() int {
	if i == nil {
		return 0
	}
	return int(i.Entries)
}

func (i *index) load() bool {
	head := make([]byte, binary.Size(i.stamp))
	if _, err := i.open.ReadAt(head, 0); err != nil {
		return false
	}
	if _, err := binary.Decode(head, binary.LittleEndian, &i.stamp); err != nil || string(i.Magic[:]) != indexMagic || i.Checksum != i.sum() {
		return false
	}
	size, err := i.open.Stat()
	return err == nil && size.Size() == int64(len(head))+int64(i.Entries)*int64(binary.Size(entry{})) && i.Covers >= 0
}

func (s stamp) sum() uint32 {
	s.Checksum = 0
	b, _ := binary.Append(nil, binary.LittleEndian, s) // of a fixed size: never fails
	return crc32.ChecksumIEEE(b)
}

// find answers false for what stood nowhere in what the index covers.
func (i *index) find(id ID) (span, bool, error) {
	size := binary.Size(entry{})
	buf := make([]byte, size)
	var failed error
	at := func(n int) (e entry) {
		if _, err := i.open.ReadAt(buf, int64(binary.Size(i.stamp)+n*size)); err != nil {
			failed = err
			return e
		}
		_, failed = binary.Decode(buf, binary.LittleEndian, &e)
		return e
	}
	n := sort.Search(int(i.Entries), func(n int) bool {
		e := at(n)
		return failed != nil || bytes.Compare(e.ID[:], id[:]) >= 0
	})
	if failed != nil || n == int(i.Entries) {
		return span{}, false, failed
	}
	e := at(n)
	return span{at: e.At, size: e.Size}, failed == nil && e.ID == id, failed
}

// all are the index's entries.
func (i *index) all() ([]entry, error) {
	head := binary.Size(i.stamp)
	b := make([]byte, int(i.Entries)*binary.Size(entry{}))
	if _, err := i.open.ReadAt(b, int64(head)); err != nil {
		return nil, err
	}
	out := make([]entry, i.Entries)
	_, err := binary.Decode(b, binary.LittleEndian, out)
	return out, err
}

// cover writes a new index of all that was read, and goes on with that. It
// must be called under the lock. After an error the file is known as before.
func (f *file) cover() error {
	entries := make([]entry, 0, len(f.index))
	late := map[ID]span{} // a last line without a newline is not covered
	for id, s := range f.index {
		if s.at >= f.next {
			late[id] = s
			continue
		}
		entries = append(entries, entry{ID: id, At: s.at, Size: s.size})
	}
	if f.base != nil {
		old, err := f.base.all()
		if err != nil {
			return err
		}
		for _, e := range old {
			if s, again := f.index[e.ID]; !again || s.at >= f.next {
				entries = append(entries, e)
			}
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	s := stamp{Magic: [16]byte([]byte(indexMagic)), Inode: inode(f.seen), Covers: f.next, Guard: f.guard,
		Lines: uint32(f.lines), Entries: uint32(len(entries))} //nolint:gosec // maxFile bounds both
	s.Checksum = s.sum()
	content, err := binary.Append(nil, binary.LittleEndian, s)
	if err == nil {
		content, err = binary.Append(content, binary.LittleEndian, entries)
	}
	if err == nil {
		err = writeIndex(indexPath(f.path), content)
	}
	if err != nil {
		return fmt.Errorf("write the index of %s: %w", f.path, err)
	}
	base := openIndex(f.path, f.seen)
	if base == nil {
		return fmt.Errorf("the index of %s is not as it was written", f.path)
	}
	f.base.close()
	f.base, f.index = base, late
	return nil
}

func writeIndex(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync() // one cut off would hide tokens
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
