package change

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/node"
)

// Journal files are var/journal/<operation>/<change>.log: one JSON record a
// line, each synced before what it announces is done. A torn last line is one
// that was never written.
const (
	recordStaging = "staging" // names that stage is about to make
	recordCommit  = "commit"  // everything is staged: from here on forward
	recordApplied = "applied" // everything on this node is done
	recordEnd     = "end"     // objects and waits are done too
	recordBack    = "back"    // entries are about to be taken back: no more forward
	recordTook    = "took"    // one of them was
	recordUndone  = "undone"  // everything is as it was before
)

// journalSchema is the version of the records; this mk reads this one and the
// one before.
const journalSchema = 1

// record is one line of a journal.
type record struct {
	Type    string   `json:"type"`
	Schema  int      `json:"schema,omitempty"`
	Seq     int      `json:"seq,omitempty"` // order among all ChangeSets of a node
	Staged  []string `json:"staged,omitempty"`
	Entries []entry  `json:"entries,omitempty"`
	Begun   int      `json:"begun,omitempty"` // how many entries were begun
	Entry   int      `json:"entry,omitempty"` // index of the one taken back
}

// maxRecord bounds a line, maxJournal a file. What would be larger is refused
// before anything is changed.
const (
	maxRecord  = 16 << 20
	maxJournal = 2 * maxRecord
)

// journal is one open journal file.
type journal struct {
	file *os.File
	step func(op, path string)
	name string
}

func journalName(id ID) string {
	return path.Join(JournalDir(id.Operation), strconv.Itoa(id.Change)+".log")
}

// createJournal makes the journal of a ChangeSet, durably: it must be found
// after a power cut.
func (e *Engine) createJournal(id ID) (*journal, error) {
	name := journalName(id)
	if err := e.Root.MkdirAll(path.Dir(name), e.Root.SecretFolder()); err != nil {
		return nil, err
	}
	e.step("create", name)
	f, err := os.OpenFile(e.Root.Path(name), os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make its journal: %w", err)
	}
	if err := node.SyncPath(filepath.Dir(f.Name())); err != nil {
		return nil, errors.Join(fmt.Errorf("make its journal: %w", err), f.Close())
	}
	return &journal{file: f, name: name, step: e.step}, nil
}

// openJournal opens a journal to go on with it, behind its last whole record.
func (e *Engine) openJournal(h *history) (*journal, error) {
	name := journalName(h.id)
	f, err := os.OpenFile(e.Root.Path(name), os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open the journal of change %s: %w", h.id, err)
	}
	if err := f.Truncate(h.whole); err != nil {
		return nil, errors.Join(fmt.Errorf("open the journal of change %s: %w", h.id, err), f.Close())
	}
	return &journal{file: f, name: name, step: e.step}, nil
}

// reserve takes the room on the disk that the journal needs to its end, so
// that a disk that is full stops a change before it is begun and never while
// it is taken back. A file system that cannot do this is used as it is.
func (j *journal) reserve(commit record) error {
	data, err := json.Marshal(commit)
	if err != nil {
		return fmt.Errorf("write its journal: %w", err)
	}
	if len(data) >= maxRecord {
		return fmt.Errorf("its journal would be larger than %d MiB", maxRecord>>20)
	}
	size := int64(len(data)) + int64(len(commit.Entries)+8)*256
	for _, name := range stagedNames(commit.Entries) {
		size += int64(len(name)) + 8
	}
	for {
		err := unix.Fallocate(int(j.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
			return fmt.Errorf("take room for its journal: %w", err)
		}
		return nil
	}
}

// append writes a record and makes it durable.
func (j *journal) append(r record) error {
	j.step("record "+r.Type, j.name)
	line, err := json.Marshal(r)
	if err == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("write journal %s: %w", j.name, err)
	}
	return nil
}

// close loses nothing: every record was synced.
func (j *journal) close() error { return j.file.Close() }

func (e *Engine) loadJournal(id ID) (*history, error) {
	f, err := os.OpenFile(e.Root.Path(journalName(id)), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := readJournal(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	h.id = id
	return h, nil
}

// histories are all ChangeSets that have a journal, in the order in which
// they were begun.
func (e *Engine) histories() ([]*history, error) {
	ids, err := e.journals()
	if err != nil {
		return nil, err
	}
	out := make([]*history, 0, len(ids))
	for _, id := range ids {
		h, err := e.loadJournal(id)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	slices.SortStableFunc(out, func(a, b *history) int { return a.seq - b.seq })
	return out, nil
}

// nextSeq is the number of the next ChangeSet in the order of all.
func (e *Engine) nextSeq() (int, error) {
	all, err := e.histories()
	if err != nil || len(all) == 0 {
		return 1, err
	}
	return all[len(all)-1].seq + 1, nil
}

// journals lists all ChangeSets ever begun that still have a journal.
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
		if n, err := strconv.Atoi(base); ok && err == nil && n > 0 && strconv.Itoa(n) == base {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}
