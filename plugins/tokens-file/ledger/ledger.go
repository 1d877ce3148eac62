// Package ledger keeps tokens in text files, one token a line, so that people
// know where to look. A file is a log: a change appends the token's line anew
// and the last one counts; what was overtaken goes when there is too much of
// it. A change is on the disk before it is answered, and a process killed at
// any instruction leaves the line before or the line after. Processes exclude
// each other with the lock of the state folder.
//
// Finding a token takes the same time however many there are: an index beside
// each large file says where lines stand, and a process reads only what was
// added since. It does not judge whether a token
// is good; see the plugin.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mk8s.io/mk/sdk/state"
	"mk8s.io/mk/sdk/tokens"
)

// Ledger is the files of one state folder, for one process.
type Ledger struct {
	dir   *state.Dir
	turn  chan struct{} // holds one: within a process waiting costs nothing
	files []*file
}

// source is a file and the purpose of the tokens in it.
type source struct {
	name    string
	purpose tokens.Purpose
}

// sources are looked through in this order; new tokens go to the first file of
// their purpose.
func sources() []source {
	return []source{
		{"persistent-cluster-tokens.txt", tokens.Persistent},
		{"cluster-tokens.txt", tokens.Join},
		{"callback-tokens.txt", tokens.Callback},
		{"callback-token.txt", tokens.Callback},
		{"certs-request-tokens.txt", tokens.CertificateRequest},
	}
}

// Open uses a state folder. Nothing is read or made before it is needed.
func Open(dir *state.Dir) *Ledger {
	l := &Ledger{dir: dir, turn: make(chan struct{}, 1)}
	for _, s := range sources() {
		l.files = append(l.files, &file{path: dir.Path(s.name), purpose: s.purpose})
	}
	return l
}

// Close forgets what was read.
func (l *Ledger) Close() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	var faults []error
	for _, f := range l.files {
		faults = append(faults, f.reset())
	}
	return errors.Join(faults...)
}

// Forget removes all files of the state folder.
func (l *Ledger) Forget(ctx context.Context) error {
	if err := l.Close(); err != nil {
		return err
	}
	return l.dir.Clear(ctx)
}

// Tx is the ledger while it is held.
type Tx struct {
	l   *Ledger
	now time.Time
}

// Change runs f while no other process changes anything. Each Put of f is
// final by itself.
func (l *Ledger) Change(ctx context.Context, now time.Time, f func(tx *Tx) error) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for a turn: %w", ctx.Err())
	}
	unlock, err := l.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, file := range l.files {
		if err := file.sync(now); err != nil {
			return fmt.Errorf("reading %s: %w", file.path, err)
		}
	}
	return f(&Tx{l: l, now: now})
}

// Find is the token with that id, of any purpose; nil without an error where
// there is none.
func (tx *Tx) Find(id ID) (*Record, error) {
	for _, f := range tx.l.files {
		r, err := f.find(id, tx.now)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", f.path, err)
		}
		if r != nil {
			return r, nil
		}
	}
	return nil, nil
}

// Put writes a token: where it stands, or at the end of the file of its
// purpose. After an error it may or may not be written.
func (tx *Tx) Put(r *Record) error {
	var target *file
	for _, f := range tx.l.files {
		_, known, err := f.place(r.Hash.ID())
		if err != nil {
			return fmt.Errorf("reading %s: %w", f.path, err)
		}
		if known {
			target = f
			break
		}
		if target == nil && f.purpose == r.Purpose {
			target = f
		}
	}
	if target == nil {
		return fmt.Errorf("purpose %q has no file", r.Purpose)
	}
	if err := target.put(r, tx.now); err != nil {
		return fmt.Errorf("writing %s: %w", target.path, err)
	}
	return nil
}

// All reads every token, also plain ones that are not hashed yet. It takes no
// lock and changes nothing. wrong are the lines that hold no token though
// someone wrote them, as file:line.
func (l *Ledger) All(now time.Time) (all []*Record, wrong []string, err error) {
	for _, f := range l.files {
		records, lines, err := readAll(f.path, f.purpose, now)
		if err != nil {
			return nil, nil, fmt.Errorf("reading %s: %w", f.path, err)
		}
		all = append(all, records...)
		for _, n := range lines {
			wrong = append(wrong, fmt.Sprintf("%s:%d", f.path, n))
		}
	}
	return all, wrong, nil
}
