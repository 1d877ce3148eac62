package pluginsdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/strict"
)

// maxEvents bounds a plugin's history; the oldest are forgotten.
const maxEvents = 200

const maxReceipts = 1 << 20

// State is how an event ended.
type State string

// States of events.
const (
	Pending     State = "pending"     // begun
	Done        State = "done"        // it has happened
	Interrupted State = "interrupted" // it was begun and has not happened
)

// Event is one thing that was done with a plugin.
type Event struct {
	At        time.Time `json:"at"`
	Action    string    `json:"action"` // install, use, rollback, remove
	State     State     `json:"state"`
	Version   string    `json:"version"`
	Digest    string    `json:"digest"`
	Authority string    `json:"authority,omitempty"`
	Source    string    `json:"source,omitempty"`
	By        string    `json:"by"`
	Why       string    `json:"why,omitempty"`
}

type receipts struct {
	Schema int     `json:"schema"`
	Plugin string  `json:"plugin"`
	Events []Event `json:"events"` // oldest first
}

func receiptsName(kind, name string) string { return "receipts/" + fileName(kind, name) + ".json" }

// History is what was done with a plugin, oldest first.
func (d *Dir) History(kind, name string) ([]Event, error) {
	r, err := d.receipts(receiptsName(kind, name))
	if err != nil {
		return nil, err
	}
	return r.Events, nil
}

func (d *Dir) receipts(file string) (*receipts, error) {
	data, err := d.read(file, maxReceipts)
	if errors.Is(err, fs.ErrNotExist) {
		return &receipts{Schema: 1}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseReceipts(data, filepath.Join(d.path, file))
}

func parseReceipts(data []byte, file string) (*receipts, error) {
	doc, err := strict.Read(data, file, maxReceipts)
	if err != nil {
		return nil, fmt.Errorf("reading a plugin's history: %w", err)
	}
	var r receipts
	doc.Decode(&r)
	if r.Schema != 1 {
		doc.Fault("schema", "is %d, this mk reads 1", r.Schema)
	}
	if err := doc.Err(); err != nil {
		return nil, fmt.Errorf("reading a plugin's history: %w", err)
	}
	return &r, nil
}

// Record adds an event to a plugin's history. One that ends a pending event of
// the same action and digest takes its place.
func (d *Dir) Record(kind, name string, e Event) error {
	file := receiptsName(kind, name)
	r, err := d.receipts(file)
	if err != nil {
		return err
	}
	r.Plugin = kind + "/" + name
	e.At = e.At.UTC()
	open := slices.IndexFunc(r.Events, func(o Event) bool {
		return o.State == Pending && o.Action == e.Action && o.Digest == e.Digest && o.Authority == e.Authority
	})
	if open >= 0 {
		r.Events[open] = e
	} else {
		r.Events = append(r.Events, e)
	}
	return d.writeReceipts(file, r)
}

func (d *Dir) writeReceipts(file string, r *receipts) error {
	r.Events = r.Events[max(0, len(r.Events)-maxEvents):]
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing a plugin's history: %w", err)
	}
	if err := d.files.WriteFile(file, append(data, '\n'), fileMode); err != nil {
		return fmt.Errorf("writing a plugin's history: %w", err)
	}
	return nil
}

// settleReceipts ends pending installs by what the lock file says.
func (d *Dir) settleReceipts(l *lockfile.Lock) error {
	entries, err := os.ReadDir(filepath.Join(d.path, "receipts"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading histories: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		file := "receipts/" + e.Name()
		r, err := d.receipts(file)
		if err != nil {
			return err
		}
		if !settle(r, l) {
			continue
		}
		if err := d.writeReceipts(file, r); err != nil {
			return err
		}
	}
	return nil
}

func settle(r *receipts, l *lockfile.Lock) bool {
	changed := false
	for i := range r.Events {
		e := &r.Events[i]
		if e.State != Pending || e.Action != "install" {
			continue
		}
		e.State, changed = Interrupted, true
		if _, ok := l.Find(e.Digest); ok {
			e.State = Done
		}
	}
	return changed
}
