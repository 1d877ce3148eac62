package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mk8s.io/mk/sdk/tokens"
)

// Remembered is how long a token is kept that is not good any more, so that
// used, expired and unknown can be told apart.
const Remembered = 30 * 24 * time.Hour

// compact rewrites the file with one line for each token: plain ones hashed,
// overtaken lines and long-forgotten tokens left out. Comments stay on top, and
// what someone mistook for a token; what a kill has cut off goes.
func (f *file) compact(now time.Time) error {
	old := f.open
	info, err := old.Stat()
	if err != nil {
		return err
	}
	end := f.next // what is after that may be half written
	if now.Sub(info.ModTime()) > settled {
		end = info.Size()
	}
	comments, records, _, err := parse(io.NewSectionReader(old, 0, end), f.purpose, now)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for _, c := range comments {
		out.Write(append(c, '\n'))
	}
	for _, r := range records {
		if over := r.Over(now); !over.IsZero() && now.Sub(over) > Remembered {
			continue
		}
		line, err := r.encode()
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	// What someone appends meanwhile goes to the old file: carry it over.
	return f.replace(out.Bytes(), func() ([]byte, error) {
		return io.ReadAll(io.NewSectionReader(old, end, maxFile))
	})
}

// replace puts a new file in place of the old one, appends what late answers
// after that, and reads it.
func (f *file) replace(content []byte, late func() ([]byte, error)) error {
	tmp, err := os.CreateTemp(filepath.Dir(f.path), ".new-*") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Chmod(fileMode(filepath.Dir(f.path)))
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		return errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
	}
	if late != nil {
		more, lateErr := late()
		if _, err = tmp.Write(more); err == nil {
			err = errors.Join(lateErr, tmp.Sync())
		}
	}
	if err := errors.Join(err, tmp.Close(), syncFolder(filepath.Dir(f.path)), f.reset()); err != nil {
		return err
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if err := f.read(info, info.ModTime()); err != nil {
		return errors.Join(err, f.reset())
	}
	return nil
}

// fileMode is for the plugin alone, unless the folder hands its group on: then
// that is the group of those who administer the node, and they may read.
func fileMode(folder string) fs.FileMode {
	if info, err := os.Stat(folder); err == nil && info.Mode()&fs.ModeSetgid != 0 {
		return 0o640
	}
	return 0o600
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readAll reads a file that may be missing. It answers the numbers of the lines
// that hold no token, too.
func readAll(path string, p tokens.Purpose, now time.Time) ([]*Record, []int, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	_, records, wrong, err := parse(io.LimitReader(f, maxFile+1), p, now)
	return records, wrong, err
}

// parse reads all tokens of a file, in the order in which they were first
// written; of several lines for one token the last counts. wrong are the lines
// that someone mistook for a token: they are among the comments, to be kept.
func parse(from io.Reader, p tokens.Purpose, now time.Time) (comments [][]byte, records []*Record, wrong []int, err error) {
	r := bufio.NewReaderSize(from, 1<<20)
	place := map[ID]int{}
	read := 0
	for n := 1; ; n++ {
		line, skipped, err := readLine(r)
		if read += len(line) + skipped + 1; read > maxFile+2 {
			return nil, nil, nil, fmt.Errorf("more than %d bytes", int64(maxFile))
		}
		if rec := parseLine(line, p, now); rec != nil {
			if i, known := place[rec.Hash.ID()]; known {
				records[i] = rec
			} else {
				place[rec.Hash.ID()] = len(records)
				records = append(records, rec)
			}
		} else if bytes.HasPrefix(line, []byte("#")) {
			comments = append(comments, slices.Clone(line))
		} else if mistaken(line) {
			comments, wrong = append(comments, slices.Clone(line)), append(wrong, n)
		}
		if errors.Is(err, io.EOF) {
			return comments, records, wrong, nil
		}
		if err != nil {
			return nil, nil, nil, err
		}
	}
}

func parseLine(line []byte, p tokens.Purpose, now time.Time) *Record {
	r, ok := decode(line)
	if !ok {
		r, ok = plain(line, p, now)
	}
	if !ok {
		return nil
	}
	r.Purpose = p
	return r
}
