package logfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"
)

// maxEntry is how much of a line is kept.
const maxEntry = 64 << 10

// Since yields the lines of the log at path, rotated files first, that were
// written at or after a time. A log that is not there has none. An error is
// yielded once, last.
func Since(path string, r *Reader, since time.Time) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, file := range withRotated(path, since) {
			for e, err := range entries(file, r) {
				if errors.Is(err, fs.ErrNotExist) { // rotated away just now
					break
				}
				if err != nil {
					yield(Entry{}, err)
					return
				}
				if !e.Time.Before(since) && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Last are the last most lines of the log at path that keep keeps; a log that
// is not there has none.
func Last(path string, r *Reader, most int, keep func(Entry) bool) ([]Entry, error) {
	var out []Entry
	for e, err := range entries(path, r) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if !keep(e) {
			continue
		}
		if out = append(out, e); len(out) >= 2*most {
			out = append([]Entry(nil), out[len(out)-most:]...)
		}
	}
	return out[max(0, len(out)-most):], nil
}

// withRotated are the log and its older files, the oldest first, without those
// that were last written before since.
func withRotated(path string, since time.Time) []string {
	out := []string{path}
	for n := 1; ; n++ {
		file := numbered(path, n)
		info, err := os.Stat(file)
		if err != nil || info.ModTime().Before(since) {
			return out
		}
		out = append([]string{file}, out...)
	}
}

func entries(path string, r *Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(Entry{}, fmt.Errorf("read a log: %w", err))
			return
		}
		defer f.Close()
		in := bufio.NewReaderSize(f, maxEntry)
		for {
			line, err := in.ReadSlice('\n')
			cut := errors.Is(err, bufio.ErrBufferFull)
			if len(line) > 0 && !yield(r.Entry(string(bytes.TrimRight(line, "\r\n"))), nil) {
				return
			}
			for cut { // the rest of a line that is too long
				_, err = in.ReadSlice('\n')
				cut = errors.Is(err, bufio.ErrBufferFull)
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("read the log %s: %w", path, err))
				return
			}
		}
	}
}

// Merge yields the lines of several logs in the order of their times.
func Merge(logs ...iter.Seq2[Entry, error]) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		type head struct {
			e    Entry
			err  error
			next func() (Entry, error, bool)
		}
		var heads []*head
		for _, l := range logs {
			next, stop := iter.Pull2(l)
			defer stop()
			if e, err, ok := next(); ok {
				heads = append(heads, &head{e, err, next})
			}
		}
		for len(heads) > 0 {
			first := 0
			for i, h := range heads {
				if h.e.Time.Before(heads[first].e.Time) {
					first = i
				}
			}
			h := heads[first]
			if !yield(h.e, h.err) {
				return
			}
			var ok bool
			if h.e, h.err, ok = h.next(); !ok {
				heads = append(heads[:first], heads[first+1:]...)
			}
		}
	}
}
