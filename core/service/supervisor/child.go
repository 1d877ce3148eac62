package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/service/process"
)

// child is a process of a service: one that this supervisor started, or one
// that it took over from an earlier one.
type child struct {
	*process.Process
	own *os.Process // nil for an adopted one, whose exit status goes to init
}

// launcher starts processes, one at a time: the limit of open files is that
// of the supervisor in the moment of the start.
type launcher struct{ mu sync.Mutex }

// start starts the program of def in a session and group of its own, with its
// log file as output, so that it does not notice the supervisor's death.
func (l *launcher) start(def service.Definition, log string) (*child, error) {
	def = def.WithDefaults()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open standard input: %w", err)
	}
	defer null.Close()
	out, err := logfile.Open(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()

	p, err := l.exec(def, &os.ProcAttr{
		Dir:   def.Dir,
		Env:   slices.Concat([]string{}, def.Env, def.SecretEnv), // not nil: nil would inherit
		Files: []*os.File{null, out, out},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", def.Path, err)
	}
	// Not reaped before wait, so the number is ours even if it died by now.
	id, err := process.Identify(p.Pid)
	if errors.Is(err, process.ErrGone) {
		return nil, &endedError{path: def.Path, how: reap(p)}
	}
	if err == nil {
		var watched *process.Process
		if watched, err = process.Open(id); err == nil {
			return &child{Process: watched, own: p}, nil
		}
	}
	_ = p.Kill()
	return nil, fmt.Errorf("start %s: %w (%s)", def.Path, err, reap(p))
}

// endedError says that a program had ended before it could be looked at.
type endedError struct{ path, how string }

// Error names the program and how it ended.
func (e *endedError) Error() string { return e.path + " ended at once: " + e.how }

func (l *launcher) exec(def service.Definition, attr *os.ProcAttr) (*os.Process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		return nil, fmt.Errorf("read limit of open files: %w", err)
	}
	if def.LimitNOFILE > 0 {
		// Only the soft limit: a hard one that is lowered does not come back.
		limit := syscall.Rlimit{Cur: min(def.LimitNOFILE, before.Max), Max: before.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return nil, fmt.Errorf("set limit of open files: %w", err)
		}
		defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) }()
	}
	p, err := os.StartProcess(def.Path, def.Argv, attr)
	if err == nil && def.OOMScoreAdjust != 0 {
		// Without CAP_SYS_RESOURCE it cannot be lowered; the service runs
		// all the same.
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid), []byte(strconv.Itoa(def.OOMScoreAdjust)), 0)
	}
	return p, err
}

// adopt takes over the process that an earlier supervisor started.
func adopt(id process.ID) (*child, error) {
	p, err := process.Open(id)
	if err != nil {
		return nil, err
	}
	return &child{Process: p}, nil
}

// wait waits for the end and says how it ended. With leftovers the rest of
// the group is killed while the leader, unreaped, keeps the number taken.
func (c *child) wait(ctx context.Context, leftovers service.KillMode) (string, error) {
	if err := c.Wait(ctx); err != nil {
		return "", err
	}
	if leftovers == service.KillGroup {
		_ = process.SignalGroup(c.ID, syscall.SIGKILL)
	}
	if c.own == nil {
		return "exit status unknown", c.Close()
	}
	return reap(c.own), c.Close()
}

func (c *child) kill(mode service.KillMode, sig syscall.Signal) error {
	err := c.Signal(sig)
	if mode == service.KillGroup {
		err = process.SignalGroup(c.ID, sig)
	}
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	return err
}

func reap(p *os.Process) string {
	st, err := p.Wait()
	if err != nil {
		return "exit status unknown"
	}
	return st.String()
}

// keepFiles sees to it that files which this process was given by whoever
// started it, such as a shell's pipes, are not passed on: those that Go opens
// never are.
func keepFiles() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // before Linux 5.11
	if err != nil {
		return fmt.Errorf("keep open files from children: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
