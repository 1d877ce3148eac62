package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/service/process"
)

// Why a unit's loop ends.
var (
	errStop  = errors.New("the service is stopped")
	errLeave = errors.New("the service is left to the next supervisor")
)

// unit keeps one service up. Its loop runs from start to stop; between, all
// that is known about it is in memory, so telling its status waits for nothing.
type unit struct {
	log   string
	conf  *config
	saved func() // called after the process changed, without the lock

	mu       sync.Mutex
	def      service.Definition
	wanted   bool
	id       *process.ID
	status   service.Status
	logFrom  int64 // where the log of the present process begins
	failures int   // ends before it was ready, since the last start
	stuck    error // set while a stop does not succeed
	run      *run  // nil while no loop runs
	changed  chan struct{}
}

// run is one loop of a unit.
type run struct {
	stop context.CancelCauseFunc
	ctx  context.Context
	kick chan struct{} // skips the pause before the next start
	done chan struct{}
}

func newUnit(conf *config, r record, saved func()) *unit {
	u := &unit{
		log: logfile.Path(conf.LogDir, r.Definition.Name), conf: conf, saved: saved,
		def: r.Definition, wanted: r.Wanted, id: r.Process, changed: make(chan struct{}),
	}
	u.status = service.Status{Name: r.Definition.Name, State: service.Stopped, Since: time.Now(), Log: u.log}
	return u
}

// update changes what is known about the unit and wakes who waits for it.
func (u *unit) update(change func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.status.State
	change()
	if u.status.State != before {
		u.status.Since = time.Now()
	}
	close(u.changed)
	u.changed = make(chan struct{})
}

func (u *unit) record() record {
	u.mu.Lock()
	defer u.mu.Unlock()
	return record{Definition: u.def, Wanted: u.wanted, Process: u.id}
}

func (u *unit) snapshot() service.Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := u.status
	st.Enabled = u.wanted
	return st
}

func (u *unit) logBegin() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.logFrom
}

// want notes what is wanted; the caller saves it before acting.
func (u *unit) want(wanted bool) { u.update(func() { u.wanted = wanted }) }

// start makes the loop run, or hurries one that pauses. It waits only for a
// stop in progress.
func (u *unit) start(ctx, life context.Context) error {
	for {
		var wait chan struct{}
		u.update(func() {
			switch {
			case u.run == nil:
				u.failures, u.status.Restarts, u.status.State = 0, 0, service.Starting
				u.status.LastError, u.status.LastExit = "", ""
				u.run = &run{kick: make(chan struct{}, 1), done: make(chan struct{})}
				u.run.ctx, u.run.stop = context.WithCancelCause(life)
				go u.loop(u.run)
			case u.run.ctx.Err() != nil:
				wait = u.run.done
			case u.status.State == service.Backoff:
				u.failures = 0
				u.status.State = service.Starting
				select {
				case u.run.kick <- struct{}{}:
				default: // it is about to start anyway
				}
			}
		})
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("start %s: its stop is not done: %w", u.status.Name, ctx.Err())
		}
	}
}

// awaitStarted waits until the service is ready, or has failed too often.
func (u *unit) awaitStarted(ctx context.Context) error {
	for {
		u.mu.Lock()
		st, wanted, failures, changed := u.status, u.wanted, u.failures, u.changed
		u.mu.Unlock()
		switch {
		case st.State == service.Running:
			return nil
		case !wanted:
			return fmt.Errorf("start %s: it was stopped meanwhile", st.Name)
		case failures >= service.MaxStartFailures:
			return &service.StartError{Service: st.Name, What: fmt.Sprintf("it ended %d times before it was ready (%s)", failures, st.LastExit), LastError: st.LastError}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &service.StartError{Service: st.Name, What: "it is not ready", LastError: logfile.LastError(u.log, u.logBegin()), Err: ctx.Err()}
		}
	}
}

// cancel tells the loop to end and returns it, or nil where none runs.
func (u *unit) cancel(why error) *run {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.run != nil {
		u.run.stop(why)
	}
	return u.run
}

// halt ends the loop, and with it the process, and waits until it is so.
func (u *unit) halt(ctx context.Context, why error) error {
	r := u.cancel(why)
	if r == nil {
		return nil
	}
	for {
		u.mu.Lock()
		stuck, changed := u.stuck, u.changed
		u.mu.Unlock()
		if stuck != nil {
			return stuck
		}
		select {
		case <-r.done:
			return nil
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("stop %s: it has not ended: %w", u.status.Name, ctx.Err())
		}
	}
}

// findProcess returns the process that an earlier supervisor left: the one
// it wrote down, or one that it started and died before it could. A recorded
// number that is someone else's by now is forgotten.
func (u *unit) findProcess() (process.ID, bool) {
	r := u.record()
	if r.Process != nil {
		if id, err := process.Identify(r.Process.PID); err == nil && id.Same(*r.Process) {
			return *r.Process, true
		}
	}
	return process.FindLeader(r.Definition.Path, u.log)
}
