package change

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// history is what a journal says happened.
type history struct {
	id      ID
	seq     int
	staged  []string
	entries []entry
	last    string // type of the last record; empty if there is none
	applied bool   // it was applied, whatever came later
	back    bool   // entries are being taken back
	begun   int    // how many were begun then
	taken   map[int]bool
	whole   int64 // bytes of the file that are whole records
}

// closed reports whether the apply phase has come to one of its ends.
func (h *history) closed() bool {
	switch h.last {
	case recordApplied, recordEnd, recordUndone:
		return true
	}
	return false
}

// readJournal reads records until the last, which a crash may have torn: then
// it was not durable, so what it announces was not begun. Anything else that
// is not a record is an error: to guess would change the wrong files.
func readJournal(r io.Reader) (*history, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxJournal+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxJournal {
		return nil, fmt.Errorf("it is larger than %d MiB", maxJournal>>20)
	}
	h := &history{taken: map[int]bool{}}
	for number := 1; len(data) > 0; number++ {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		var rec record
		err := json.Unmarshal(line, &rec)
		if !ended || (err != nil && len(rest) == 0) {
			return h, nil
		}
		if err == nil {
			err = h.add(rec)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		h.whole += int64(len(line)) + 1
		data = rest
	}
	return h, nil
}

func (h *history) add(rec record) error {
	if rec.Schema > journalSchema {
		return fmt.Errorf("it was written by a newer mk (journal schema %d, this mk reads up to %d)", rec.Schema, journalSchema)
	}
	if !follows(h.last, rec.Type) {
		return fmt.Errorf("a record %q cannot follow %q", rec.Type, h.last)
	}
	switch rec.Type {
	case recordStaging:
		h.seq, h.staged = rec.Seq, rec.Staged
	case recordCommit:
		h.entries = rec.Entries
	case recordApplied:
		h.applied = true
	case recordBack:
		if rec.Begun < 0 || rec.Begun > len(h.entries) {
			return errors.New("more was begun than there is")
		}
		h.back, h.begun = true, rec.Begun
	case recordTook:
		if rec.Entry < 0 || rec.Entry >= h.begun {
			return errors.New("more was taken back than was begun")
		}
		h.taken[rec.Entry] = true
	}
	h.last = rec.Type
	return nil
}

// follows reports whether a record may come after another.
func follows(before, after string) bool {
	switch after {
	case recordStaging:
		return before == ""
	case recordCommit:
		return before == recordStaging
	case recordApplied:
		return before == recordCommit
	case recordEnd:
		return before == recordApplied || before == recordEnd
	case recordBack:
		return before == recordCommit || before == recordApplied || before == recordEnd
	case recordTook:
		return before == recordBack || before == recordTook
	case recordUndone:
		return before == "" || before == recordStaging || before == recordBack || before == recordTook
	}
	return false
}
