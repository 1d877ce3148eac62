package operation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/plugin"
)

// State is where an operation stands.
type State string

// States.
const (
	Open   State = "open"   // begun; whoever takes the lock next goes on
	Paused State = "paused" // open, and left alone until resumed
	Done   State = "done"
	Failed State = "failed" // ended with an error, as it was or as the error says
	Undone State = "undone"
)

// Record is one operation ever begun.
type Record struct {
	Schema  int             `json:"schema"`
	Number  int             `json:"number"`
	ID      string          `json:"id"` // what plugins are asked under
	Verb    string          `json:"verb"`
	Params  json.RawMessage `json:"params,omitempty"`
	Command []string        `json:"command,omitempty"` // without secrets
	User    string          `json:"user"`
	PID     int             `json:"pid"`
	Began   time.Time       `json:"began"`
	Ended   time.Time       `json:"ended,omitzero"`
	State   State           `json:"state"`
	Steps   []StepRecord    `json:"steps,omitempty"`
	Changes int             `json:"changes,omitempty"` // ChangeSets so far: number.1 …
	Error   string          `json:"error,omitempty"`
	// Served says that this was done for another node, without the operation
	// lock: nobody goes on with it but who asks again.
	Served bool `json:"served,omitempty"`
	// Forward says that a step was done that cannot be taken back.
	Forward bool `json:"forward,omitempty"`
}

// StepRecord is one step that was begun.
type StepRecord struct {
	Name  string      `json:"name"`
	Began time.Time   `json:"began"`
	Ended time.Time   `json:"ended,omitzero"`
	Next  plugin.Step `json:"next,omitzero"` // where a plugin's steps stand
}

// recordSchema is what this mk writes; it reads this one and the one before.
const recordSchema = 1

const maxRecord = 8 << 20

func recordName(number int) string { return change.JournalDir(number) + "/operation.json" }

func saveRecord(root *node.Root, r *Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write operation %d: %w", r.Number, err)
	}
	// The admin group reads what was done; what was written is in the redo log,
	// for root alone.
	if err := root.MkdirAll(change.JournalDir(r.Number), root.SecretFolder()); err != nil {
		return err
	}
	return root.WriteFile(recordName(r.Number), append(data, '\n'), root.Secret())
}

// LoadRecord reads one operation.
func LoadRecord(root *node.Root, number int) (*Record, error) {
	data, err := root.ReadFile(recordName(number))
	if err != nil {
		return nil, err
	}
	return parseRecord(data, root.Path(recordName(number)))
}

func parseRecord(data []byte, file string) (*Record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxRecord)
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if r.Schema > recordSchema {
		return nil, fmt.Errorf("%s: written by a newer mk (schema %d, this mk reads up to %d)", file, r.Schema, recordSchema)
	}
	return &r, nil
}

// Records lists every operation ever begun, oldest first.
func Records(root *node.Root) ([]*Record, error) {
	entries, err := os.ReadDir(root.Journal())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list operations: %w", err)
	}
	var out []*Record
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		r, err := LoadRecord(root, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // killed before its first record: nothing had begun
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *Record) int { return a.Number - b.Number })
	return out, nil
}

// nextNumber takes the number after the highest that any operation ever had.
// Its folder is made here, so that nobody else gets the same one: an agent
// that serves others does not hold the operation lock.
func nextNumber(root *node.Root) (int, error) {
	for {
		n, err := freeNumber(root)
		if err != nil {
			return 0, err
		}
		if err := root.MkdirAll("var/journal", root.SecretFolder()); err != nil {
			return 0, err
		}
		err = os.Mkdir(root.Journal(strconv.Itoa(n)), 0o700)
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return 0, fmt.Errorf("take a number for the operation: %w", err)
		}
	}
}

func freeNumber(root *node.Root) (int, error) {
	entries, err := os.ReadDir(root.Journal())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("list operations: %w", err)
	}
	n := 0
	for _, e := range entries {
		if i, err := strconv.Atoi(e.Name()); err == nil {
			n = max(n, i)
		}
	}
	return n + 1, nil
}
