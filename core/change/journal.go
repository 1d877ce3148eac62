package change

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// Journal files are var/journal/<operation>/<change>.log: one JSON record a
// line, each synced before what it announces is done. A torn last line is one
// that was never written.
const (
	recordStaging = "staging" // names that stage is about to make
	recordCommit  = "commit"  // everything is staged: from here on forward
	recordApplied = "applied" // everything on this node is done
	recordUndone  = "undone"  // everything is as it was before
	recordEnd     = "end"     // objects and waits are done too
)

// journalSchema is the version of the records; this mk reads this one and the
// one before.
const journalSchema = 1

// record is one line of a journal.
type record struct {
	Type    string   `json:"type"`
	Schema  int      `json:"schema,omitempty"`
	Staged  []string `json:"staged,omitempty"`
	Entries []entry  `json:"entries,omitempty"`
}

// maxRecord bounds a line: a ChangeSet has at most 1000 operations.
const maxRecord = 4 << 20

// journal is one open journal file.
type journal struct {
	file *os.File
	step func(op, path string)
	name string
}

// JournalDir is the folder of an operation's journal, relative to the root.
func JournalDir(operation int) string {
	return "var/journal/" + strconv.Itoa(operation)
}

func journalName(id ID) string {
	return path.Join(JournalDir(id.Operation), strconv.Itoa(id.Change)+".log")
}

func (e *Engine) openJournal(id ID) (*journal, error) {
	name := journalName(id)
	if err := e.Root.MkdirAll(path.Dir(name), e.Root.SecretFolder()); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(e.Root.Path(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", id, err)
	}
	return &journal{file: f, name: name, step: e.Step}, nil
}

// append writes a record and makes it durable.
func (j *journal) append(r record) error {
	if j.step != nil {
		j.step("record "+r.Type, j.name)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write journal %s: %w", j.name, err)
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write journal %s: %w", j.name, err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write journal %s: %w", j.name, err)
	}
	return nil
}

func (j *journal) close() { _ = j.file.Close() } // every record was synced

// history is what a journal says happened.
type history struct {
	staged  []string
	entries []entry
	last    string
}

// readJournal reads records until the first that is not whole.
func readJournal(r io.Reader) (history, error) {
	var h history
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxRecord)
	for sc.Scan() {
		if len(bytes.TrimSpace(sc.Bytes())) == 0 {
			continue
		}
		var rec record
		if json.Unmarshal(sc.Bytes(), &rec) != nil {
			// Torn by a crash: the record was not durable, so what it
			// announces was not begun.
			return h, nil
		}
		if rec.Schema > journalSchema {
			return h, fmt.Errorf("it was written by a newer mk (journal schema %d, this mk reads up to %d)", rec.Schema, journalSchema)
		}
		h.last = rec.Type
		h.staged = append(h.staged, rec.Staged...)
		if rec.Type == recordCommit {
			h.entries = rec.Entries
		}
	}
	if err := sc.Err(); err != nil {
		return h, err
	}
	return h, nil
}

func (e *Engine) loadJournal(id ID) (history, error) {
	f, err := os.Open(e.Root.Path(journalName(id)))
	if err != nil {
		return history{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := readJournal(f)
	if err != nil {
		return h, fmt.Errorf("read journal %s: %w", id, err)
	}
	return h, nil
}

// journals lists all ChangeSets ever begun that still have a journal, oldest
// first.
func (e *Engine) journals() ([]ID, error) {
	var ids []ID
	ops, err := numbers(e.Root.Path("var/journal"), "")
	if err != nil {
		return nil, err
	}
	for _, op := range ops {
		changes, err := numbers(e.Root.Journal(strconv.Itoa(op)), ".log")
		if err != nil {
			return nil, err
		}
		for _, c := range changes {
			ids = append(ids, ID{op, c})
		}
	}
	return ids, nil
}

// numbers lists the entries of a folder that are a number with a suffix,
// sorted.
func numbers(dir, suffix string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal folder: %w", err)
	}
	var out []int
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), suffix)
		if n, err := strconv.Atoi(base); ok && err == nil && n > 0 {
			out = append(out, n)
		}
	}
	sortInts(out)
	return out, nil
}
