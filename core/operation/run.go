package operation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/timer"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// maxAsked is how often a plugin is asked again because something changed
// between its answer and the apply lock.
const maxAsked = 3

// Run is an operation that holds the operation lock.
type Run struct {
	Record   *Record
	root     *node.Root
	engine   *change.Engine
	lock     *lock.Lock
	progress Progress
	now      func() time.Time
	check    func(cs changeset.ChangeSet, by plugin.Identity) error
	stands   func(number int)
	Resumed  bool // it was open, and is gone on with
	// AtEnd is done when the operation has ended and that is written down, before
	// anybody else takes the lock.
	AtEnd func() error
}

// Progress is told where an operation stands. A step has a beginning and an
// end; a detail is what a step is at.
type Progress interface {
	Begin(step string)
	Detail(text string)
	End(step string, took time.Duration, err error)
}

// ErrPaused says that an operation stands open because someone paused it.
var ErrPaused = errors.New("the operation is paused")

// Journal begins operations on one node and reads those that were.
type Journal struct {
	Root     *node.Root
	Engine   *change.Engine
	Owner    lock.Owner
	Command  []string
	Progress Progress
	Waiting  func(lock.Owner)
	Stands   func(number int)
	Now      func() time.Time
	NewID    func() string
	// Check judges what a plugin answered against its grants.
	Check func(cs changeset.ChangeSet, by plugin.Identity) error
	// Locked is told who has got the operation lock, after whatever wait.
	Locked func(verb string) error
}

// Begin takes the operation lock, finishes a ChangeSet that was interrupted,
// and begins an operation, or goes on with an open one of the same verb. An
// open one of another verb must be resumed or aborted first: it is returned
// as *OpenError.
func (j *Journal) Begin(ctx context.Context, verb string, params any) (*Run, error) {
	l, err := lock.Acquire(ctx, j.Root.Locks(), lock.Operation, j.Owner, j.Waiting)
	if err != nil {
		return nil, err
	}
	if j.Locked != nil {
		err = j.Locked(verb)
	}
	var r *Run
	if err == nil {
		r, err = j.begin(ctx, l, verb, params)
	}
	if err != nil {
		return nil, errors.Join(err, l.Release())
	}
	return r, nil
}

// serve begins what is done for another node. It takes no operation lock, so
// that nodes never wait for each other's; the id is the caller's.
func (j *Journal) serve(verb, id string) (*Run, error) {
	rec, err := j.newRecord(verb, nil)
	if err != nil {
		return nil, err
	}
	rec.ID, rec.Served = id, true
	r := &Run{Record: rec, root: j.Root, engine: j.Engine, progress: j.Progress, now: j.Now, check: j.Check}
	return r, saveRecord(j.Root, rec)
}

// SettleServed ends the records of what an agent that was killed did for other
// nodes: they ask again. The agent that serves calls it before it does.
func (j *Journal) SettleServed() error {
	all, err := Records(j.Root)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range all {
		if !r.Served || r.State != Open {
			continue
		}
		r.State, r.Ended, r.Error = Failed, j.Now().UTC(), "it was interrupted; the other node asks again"
		errs = append(errs, saveRecord(j.Root, r))
	}
	return errors.Join(errs...)
}

// hold takes the operation lock without beginning anything.
func (j *Journal) hold(ctx context.Context) (release func() error, err error) {
	l, err := lock.Acquire(ctx, j.Root.Locks(), lock.Operation, j.Owner, j.Waiting)
	if err != nil {
		return nil, err
	}
	return l.Release, nil
}

// OpenError says that another operation stands open.
type OpenError struct{ Record *Record }

// Error names it.
func (e *OpenError) Error() string {
	return fmt.Sprintf("change %d (%s) is not finished", e.Record.Number, e.Record.Verb)
}

func (j *Journal) begin(ctx context.Context, l *lock.Lock, verb string, params any) (*Run, error) {
	if err := j.Engine.Recover(ctx); err != nil {
		return nil, err
	}
	open, err := j.Open()
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(params)
	if err != nil {
		return nil, fmt.Errorf("record the parameters of %s: %w", verb, err)
	}
	if open != nil && open.Verb == verb && open.State == Paused {
		return nil, fmt.Errorf("change %d: %w", open.Number, ErrPaused)
	}
	if open != nil && !open.same(verb, data) {
		if err := j.settle(open, verb); err != nil {
			return nil, err
		}
		open = nil
	}
	r := &Run{root: j.Root, engine: j.Engine, lock: l, progress: j.Progress, now: j.Now, check: j.Check, stands: j.Stands}
	if open != nil {
		r.Record, r.Resumed = open, true
		r.stand()
		return r, nil
	}
	r.Record, err = j.newRecord(verb, data)
	if err != nil {
		return nil, err
	}
	r.stand()
	return r, saveRecord(j.Root, r.Record)
}

// same reports whether the operation is asked for once more. A start, a join, a
// leave and a datastore that is made anew go on by whatever words.
func (r *Record) same(verb string, params []byte) bool {
	if r.Verb != verb {
		return false
	}
	switch verb {
	case "start", "join", "leave", RecoverVerb, RestoreVerb:
		return true
	}
	var was bytes.Buffer // it is indented in its file
	return json.Compact(&was, r.Params) == nil && bytes.Equal(was.Bytes(), params)
}

// The verbs that put another datastore in the place of this node's.
const (
	RecoverVerb = "datastore recover"
	RestoreVerb = "datastore snapshot restore"
)

// settle ends an operation of another verb that a killed process left open.
// All but a start consist of ChangeSets that Recover has just brought to one of
// their ends, so nothing is left to do. A start goes on, or is given up by who
// wants the node to stop; a datastore that is half made anew is always gone on
// with, and so is the leave of a node that is no member of its datastore any
// more, until the node is gone.
func (j *Journal) settle(open *Record, verb string) error {
	if open.State == Paused || (open.Verb == "start" && verb != "stop") || (open.Verb == "join" && verb != "leave") ||
		open.Verb == RecoverVerb || open.Verb == RestoreVerb || (open.Verb == "leave" && open.Forward && j.exists()) {
		return &OpenError{open}
	}
	open.State, open.Ended = Failed, j.Now().UTC()
	if open.Error == "" {
		open.Error = "it was interrupted; what it had applied stays"
	}
	return saveRecord(j.Root, open)
}

// exists reports whether there is a node: the last that a leave removes.
func (j *Journal) exists() bool {
	_, err := j.Root.Lstat("node.json")
	return !errors.Is(err, fs.ErrNotExist)
}

func (j *Journal) newRecord(verb string, params []byte) (*Record, error) {
	n, err := nextNumber(j.Root)
	if err != nil {
		return nil, err
	}
	return &Record{
		Schema: recordSchema, Number: n, ID: j.NewID(), Verb: verb, Params: params, Command: j.Command,
		User: j.Owner.User, PID: j.Owner.PID, Began: j.Now().UTC(), State: Open,
	}, nil
}

// Open is the operation that stands open, or nil.
func (j *Journal) Open() (*Record, error) {
	records, err := Records(j.Root)
	if err != nil {
		return nil, err
	}
	for _, r := range slices.Backward(records) {
		if (r.State == Open || r.State == Paused) && !r.Served {
			return r, nil
		}
	}
	return nil, nil
}

// stand says which operation stands open, where one does.
func (r *Run) stand() {
	if r.stands == nil {
		return
	}
	if r.Record.State == Open {
		r.stands(r.Record.Number)
	} else {
		r.stands(0)
	}
}

// End ends the operation and releases the lock. An error ends it as failed,
// except one that whoever comes next should go on from: the record stays open
// where the context ended, and where there is only forward.
func (r *Run) End(ctx context.Context, err error) error {
	switch {
	case err == nil:
		r.Record.State, r.Record.Error = Done, ""
	case (ctx.Err() != nil || r.Record.Forward) && !r.Record.Served:
		r.Record.Error = err.Error() // stays open
	default:
		r.Record.State, r.Record.Error = Failed, err.Error()
	}
	if r.Record.State != Open {
		r.Record.Ended = r.now().UTC()
	}
	err = errors.Join(err, r.save())
	if r.lock == nil {
		return err
	}
	return errors.Join(err, r.lock.Release())
}

func (r *Run) save() error {
	defer r.stand()
	if err := saveRecord(r.root, r.Record); err != nil || r.Record.State == Open || r.AtEnd == nil {
		return err
	}
	return r.AtEnd()
}

// Release lets go of the operation lock and leaves the operation as it stands:
// whoever comes next goes on with it.
func (r *Run) Release() error { return r.lock.Release() }

// GiveUp ends an operation that somebody has taken back.
func (r *Run) GiveUp(why string) error {
	r.Record.State, r.Record.Error, r.Record.Ended = Failed, why, r.now().UTC()
	return errors.Join(r.save(), r.lock.Release())
}

// Step does one named part of an operation, once: a step that was done before
// a crash is not done again. do must look first what is already so, because a
// crash may fall between its end and the record of it.
func (r *Run) Step(ctx context.Context, name string, do func(ctx context.Context) error) error {
	s := r.step(name)
	if !s.Ended.IsZero() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	began := r.now()
	r.progress.Begin(name)
	err := do(ctx)
	r.progress.End(name, r.now().Sub(began), err)
	if err != nil {
		return err
	}
	r.step(name).Ended = r.now().UTC()
	return saveRecord(r.root, r.Record)
}

// step is the record of a step, made if it is new.
func (r *Run) step(name string) *StepRecord {
	for i := range r.Record.Steps {
		if r.Record.Steps[i].Name == name {
			return &r.Record.Steps[i]
		}
	}
	r.Record.Steps = append(r.Record.Steps, StepRecord{Name: name, Began: r.now().UTC()})
	return &r.Record.Steps[len(r.Record.Steps)-1]
}

// Apply applies a ChangeSet of the core's own.
func (r *Run) Apply(ctx context.Context, cs changeset.ChangeSet) error {
	if len(cs.Operations) == 0 {
		return nil
	}
	r.Record.Changes++
	if err := saveRecord(r.root, r.Record); err != nil {
		return err
	}
	return r.engine.Apply(ctx, change.ID{Operation: r.Record.Number, Change: r.Record.Changes}, r.Record.ID, cs)
}

// Call identifies a question of this operation.
func (r *Run) Call(question string) plugin.Call {
	return plugin.Call{OperationID: r.Record.ID + "/" + question}
}

// Ask puts a question and applies what it answers, step by step, until there
// is no next one. with may add the core's own operations to each answer.
func (r *Run) Ask(ctx context.Context, question string, by plugin.Identity,
	ask func(ctx context.Context, call plugin.Call) (plugin.Answer, error),
	with func(changeset.ChangeSet) (changeset.ChangeSet, error),
) error {
	call := r.Call(question)
	call.Step = r.step(question).Next
	stale := 0
	for {
		answer, err := ask(ctx, call)
		if err != nil {
			return err
		}
		if answer.NotYet != nil {
			if err := r.Wait(ctx, answer.NotYet); err != nil {
				return err
			}
			continue
		}
		if err := r.check(answer.Changes, by); err != nil {
			return fmt.Errorf("%s: %w", by, err)
		}
		cs := ownInventories(answer.Changes, by)
		if with != nil {
			if cs, err = with(cs); err != nil {
				return err
			}
		}
		err = r.Apply(ctx, cs)
		if errors.Is(err, change.ErrStale) && stale < maxAsked {
			stale++
			continue
		}
		if err != nil {
			return err
		}
		if answer.Next.IsZero() {
			r.step(question).Ended = r.now().UTC()
			return nil
		}
		call.Step = answer.Next
		r.step(question).Next = answer.Next
		if err := saveRecord(r.root, r.Record); err != nil {
			return err
		}
	}
}

// Passes notes, before a step is asked for, that it cannot be taken back.
func (r *Run) Passes(ctx context.Context, p plugin.Plugin, question string, step plugin.Step) error {
	if r.Record.Forward || step.IsZero() {
		return nil
	}
	d, err := p.Describe(ctx)
	if err != nil {
		return err
	}
	for _, s := range d.Steps {
		if s.Question == question && s.Name == step.Name && !s.Revocable {
			return r.GoForward()
		}
	}
	return nil
}

// GoForward notes that what was done cannot be taken back: an error leaves the
// operation open, and only the same verb goes on with it.
func (r *Run) GoForward() error {
	if r.Record.Forward {
		return nil
	}
	r.Record.Forward = true
	return saveRecord(r.root, r.Record)
}

// Wait waits until a plugin wants to be asked again.
func (r *Run) Wait(ctx context.Context, n *plugin.NotYet) error {
	r.progress.Detail(n.WaitingFor)
	pause := min(max(n.RetryAfter, 100*time.Millisecond), time.Minute)
	if !timer.Wait(ctx, pause) {
		return fmt.Errorf("waiting for %s: %w", n.WaitingFor, ctx.Err())
	}
	return nil
}
