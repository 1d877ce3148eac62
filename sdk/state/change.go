package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
)

// commitName holds the files of one change while they are put in place.
const commitName = ".commit"

// Locked is the folder while it is held by Change or Once. It must not be used
// after they return.
type Locked struct {
	dir    *Dir
	staged map[string]json.RawMessage
}

// Read reads a file, as this change has written it. A file that is not there
// yet leaves v as it is.
func (l *Locked) Read(name string, v any) error {
	if b, ok := l.staged[name]; ok {
		return json.Unmarshal(b, v)
	}
	return l.dir.Read(name, v)
}

// Text is what Read takes apart, for who would rather see first whether it has
// changed: the file, or nil if it is not there yet.
func (l *Locked) Text(name string) ([]byte, error) {
	if b, ok := l.staged[name]; ok {
		return b, nil
	}
	return l.dir.text(name)
}

// Write replaces a file, together with all others of this change and only if
// the change ends without an error.
func (l *Locked) Write(name string, v any) error {
	if !nameForm().MatchString(name) {
		return fmt.Errorf("state file %q is not a name", name)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing state %s: %w", name, err)
	}
	if len(b) >= MaxSize {
		return fmt.Errorf("state %s would have %d bytes, at most %d are allowed", name, len(b), MaxSize)
	}
	l.staged[name] = b
	return nil
}

// Change runs f under the lock. What it wrote becomes true as one, or, after
// an error, not at all.
func (d *Dir) Change(ctx context.Context, f func(l *Locked) error) error {
	unlock, err := d.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	l := &Locked{dir: d, staged: map[string]json.RawMessage{}}
	if err := f(l); err != nil {
		return err
	}
	if err := d.commit(l.staged); err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	return nil
}

// commit puts files in place. Several are first written into one, whose rename
// is the moment at which all of them hold; recover finishes what was cut off.
func (d *Dir) commit(files map[string]json.RawMessage) error {
	if len(files) > 1 {
		b, err := json.Marshal(files)
		if err != nil {
			return err
		}
		if err := d.replace(commitName, b, false); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := d.replace(name, append(slices.Clip(files[name]), '\n'), false); err != nil {
			return err
		}
	}
	if len(files) > 1 {
		return errors.Join(os.Remove(d.Path(commitName)), d.sync())
	}
	return nil
}

// recover finishes the change of a process that was killed. Half-written files
// of others are left: they are never read, and Clear removes them.
func (d *Dir) recover() error {
	b, err := os.ReadFile(d.Path(commitName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finishing a change of the state: %w", err)
	}
	files := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &files); err != nil {
		return fmt.Errorf("finishing a change of the state: %w", err)
	}
	for name := range files {
		if !nameForm().MatchString(name) {
			return fmt.Errorf("finishing a change of the state: %q is not a name", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := d.replace(name, append(slices.Clip(files[name]), '\n'), false); err != nil {
			return fmt.Errorf("finishing a change of the state: %w", err)
		}
	}
	return errors.Join(os.Remove(d.Path(commitName)), d.sync())
}
