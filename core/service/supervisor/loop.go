package supervisor

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/service/process"
)

const (
	// probeFirst is how soon a service is asked first whether it is ready, and
	// probeEvery how long the pauses grow: others wait for it.
	probeFirst = 5 * time.Millisecond
	probeEvery = 50 * time.Millisecond
	// killWait is how long a killed process may take to be gone; longer means
	// that the kernel holds it, in a dead file system for instance.
	killWait = 10 * time.Second
)

// loop keeps the process up until its run is stopped.
func (u *unit) loop(r *run) {
	defer close(r.done)
	pause := u.conf.BackoffMin
	for {
		began := time.Now()
		how, err := u.once(r.ctx)
		if r.ctx.Err() != nil {
			u.finish(r, how)
			return
		}
		if err != nil {
			how = err.Error()
		}
		if time.Since(began) >= u.conf.BackoffReset {
			pause = u.conf.BackoffMin
		}
		u.failed(how, err)
		u.saved()
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-r.kick:
		case <-r.ctx.Done():
			timer.Stop()
			u.finish(r, "")
			return
		}
		timer.Stop()
		pause = min(2*pause, u.conf.BackoffMax)
	}
}

// failed notes an end that nobody asked for.
func (u *unit) failed(how string, err error) {
	line := logfile.LastError(u.log, u.logBegin())
	if ended, ok := errors.AsType[*endedError](err); ok {
		how = ended.how
	}
	if err != nil && line == "" {
		line = err.Error()
	}
	u.update(func() {
		if u.status.State != service.Running {
			u.failures++
		}
		u.status.State, u.status.PID, u.id = service.Backoff, 0, nil
		u.status.LastExit, u.status.LastError = how, line
		u.status.Restarts++
	})
}

// finish notes the end of the loop.
func (u *unit) finish(r *run, how string) {
	leave := errors.Is(context.Cause(r.ctx), errLeave)
	u.update(func() {
		u.run, u.stuck = nil, nil
		u.status.State = service.Stopped
		if how != "" {
			u.status.LastExit = how
		}
		if !leave {
			u.status.PID, u.id = 0, nil
		}
	})
	if !leave {
		u.saved()
	}
}

// once runs the process once, from its start or adoption to its end.
func (u *unit) once(ctx context.Context) (string, error) {
	u.mu.Lock()
	def := u.def.WithDefaults()
	u.mu.Unlock()
	c, err := u.obtain(ctx, def)
	if err != nil {
		return "", err
	}
	u.update(func() {
		u.status.State, u.status.PID, u.id = service.Starting, c.ID.PID, &c.ID
	})
	u.saved()

	how, err := u.untilReady(ctx, c, def)
	if errors.Is(err, errReady) {
		u.update(func() { u.status.State = service.Running })
		how, err = c.wait(ctx, def.KillMode)
	}
	if ctx.Err() == nil || (err == nil && how != "") {
		return how, err
	}
	if errors.Is(context.Cause(ctx), errStop) {
		return u.terminate(ctx, c, def)
	}
	return "", c.Close() // left to the next supervisor
}

// obtain takes over the process that is there, or starts one.
func (u *unit) obtain(ctx context.Context, def service.Definition) (*child, error) {
	u.mu.Lock()
	id := u.id
	u.mu.Unlock()
	if id != nil {
		c, err := adopt(*id)
		if err == nil {
			now, err := process.Identify(id.PID)
			if err == nil && now.Exe == id.Exe {
				u.conf.Logger.Info("service taken over", "service", def.Name, "pid", id.PID)
				return c, nil
			}
			// It runs another program than the one we started.
			if _, err := u.terminate(ctx, c, def); err != nil {
				return nil, err
			}
		} else if !errors.Is(err, process.ErrGone) {
			return nil, err
		}
	}
	from := logfile.Size(u.log)
	u.update(func() { u.logFrom = from })
	return u.conf.launcher.start(def, u.log)
}

var errReady = errors.New("ready")

// untilReady returns errReady, or how the process ended before.
func (u *unit) untilReady(ctx context.Context, c *child, def service.Definition) (string, error) {
	began := time.Now()
	for pause := probeFirst; ; pause = min(pause+pause/16, probeEvery) {
		tick, cancel := context.WithTimeout(ctx, pause)
		how, err := c.wait(tick, def.KillMode)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return how, err
		}
		if def.Ready.Set() && def.Ready.Try(ctx) == nil {
			return "", errReady
		}
		if !def.Ready.Set() && time.Since(began) >= service.Settle {
			return "", errReady
		}
	}
}

// terminate asks the process to end, and ends it when it has not after its
// timeout. A process that even SIGKILL does not end is reported to who waits
// for the stop, and waited for further.
func (u *unit) terminate(ctx context.Context, c *child, def service.Definition) (string, error) {
	u.update(func() { u.status.State = service.Stopping })
	ctx = context.WithoutCancel(ctx) // the stop is what ended ctx; bounded below
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{def.StopSignal, def.StopTimeout}, {syscall.SIGKILL, killWait}} {
		if err := c.kill(def.KillMode, step.signal); err != nil {
			u.conf.Logger.Warn("signal not sent", "service", def.Name, "err", err)
		}
		waiting, cancel := context.WithTimeout(ctx, step.wait)
		how, err := c.wait(waiting, def.KillMode)
		cancel()
		if err == nil {
			return how, nil
		}
	}
	stuck := fmt.Errorf("stop %s: process %d does not end, even killed: the kernel holds it", def.Name, c.ID.PID)
	u.update(func() { u.stuck = stuck })
	return c.wait(ctx, def.KillMode)
}
