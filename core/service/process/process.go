// Package process names, watches and ends processes without the races of
// plain process numbers.
//
// A process is known by its number, its start time and the machine's boot;
// it is watched and signaled through a pidfd, so a number that was given to
// another program in between is never hit. What remains of a group whose
// leader is gone is ended only while the number cannot belong to anyone else.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone is returned when a process is not there any more, or its number now
// means another one.
var ErrGone = errors.New("process is gone")

// ID names one process for as long as the machine is up.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // field 22 of /proc/<pid>/stat, in ticks since boot
	Boot  string `json:"boot"`  // the kernel's boot id
	Exe   string `json:"exe"`   // the program it runs
}

// Identify returns the ID of the process that has number pid now. A zombie is
// ErrGone.
func Identify(pid int) (ID, error) {
	st, err := readStat(pid)
	if err != nil {
		return ID{}, err
	}
	if st.state == 'Z' || st.state == 'X' {
		return ID{}, ErrGone
	}
	boot, err := bootID()
	if err != nil {
		return ID{}, err
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ID{}, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return ID{PID: pid, Start: st.start, Boot: boot, Exe: strings.TrimSuffix(exe, " (deleted)")}, nil
}

// ticks is the kernel's USER_HZ: what it counts in for programs, on every
// architecture that mk is built for.
const ticks = 100

// Started is when the process that has number pid now began, by the clock as it
// is set now. It is never later than that, and a tick earlier at most.
func Started(pid int) (time.Time, error) {
	st, err := readStat(pid)
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now() // before the other clock: what passes in between makes it earlier
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, fmt.Errorf("read how long the machine is up: %w", err)
	}
	age := time.Duration(up.Nano()) - time.Duration(st.start)*(time.Second/ticks)
	return now.Add(-age), nil
}

// Same reports whether both name the same process, whatever program it runs.
func (id ID) Same(other ID) bool {
	return id.PID == other.PID && id.Start == other.Start && id.Boot == other.Boot
}

// Process is a process that is watched. Close it when done.
type Process struct {
	ID ID
	fd *os.File
}

// Open watches the process id, which need not be a child. ErrGone if it ended.
func Open(id ID) (*Process, error) {
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.10
		if fd, err = unix.PidfdOpen(id.PID, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", id.PID, err)
	}
	p := &Process{ID: id, fd: os.NewFile(uintptr(fd), "pidfd")}
	// Only now is the number pinned: look whether it is still the same.
	if st, err := readStat(id.PID); err != nil || st.start != id.Start {
		return nil, errors.Join(ErrGone, p.fd.Close())
	}
	return p, nil
}

// Wait returns nil when the process has ended (a child is a zombie then, not
// yet reaped) or ctx' error.
func (p *Process) Wait(ctx context.Context) error {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.ID.PID, err)
	}
	if err := p.fd.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("watch process %d: %w", p.ID.PID, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.fd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool { return readable(int(fd)) })
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.ID.PID, err)
	}
	return nil
}

func readable(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n > 0
	}
}

// Signal sends sig to the process only; ErrGone if it ended.
func (p *Process) Signal(sig syscall.Signal) error {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.ID.PID, err)
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return fmt.Errorf("signal process %d: %w", p.ID.PID, err)
	}
	if errors.Is(sent, unix.ESRCH) {
		return ErrGone
	}
	if sent != nil {
		return fmt.Errorf("signal process %d: %w", p.ID.PID, sent)
	}
	return nil
}

// Close ends the watching. A Wait in progress returns.
func (p *Process) Close() error { return p.fd.Close() }

// SignalGroup signals the process group that id leads or has led. Nobody is
// signaled where the number was given to another process since.
func SignalGroup(id ID, sig syscall.Signal) error {
	if id.PID <= 1 {
		return fmt.Errorf("refuse to signal the group of process %d", id.PID)
	}
	st, err := readStat(id.PID)
	switch {
	case errors.Is(err, ErrGone):
		// The leader is gone. While others are left in its group the kernel
		// does not give its number away; with none, kill finds nobody.
	case err != nil:
		return err
	case st.start != id.Start:
		return ErrGone
	}
	if err := unix.Kill(-id.PID, sig); errors.Is(err, unix.ESRCH) {
		return ErrGone
	} else if err != nil {
		return fmt.Errorf("signal group %d: %w", id.PID, err)
	}
	return nil
}

// FindLeader looks for a session leader that runs exe and has the file log as
// standard output: a child of a supervisor that died before it could write
// down whom it had started.
func FindLeader(exe, log string) (ID, bool) {
	want, err := os.Stat(log)
	if err != nil {
		return ID{}, false
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return ID{}, false
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		st, err := readStat(pid)
		if err != nil || st.session != pid {
			continue
		}
		out, err := os.Stat(fmt.Sprintf("/proc/%d/fd/1", pid))
		if err != nil || !os.SameFile(out, want) {
			continue
		}
		if id, err := Identify(pid); err == nil && id.Exe == exe {
			return id, true
		}
	}
	return ID{}, false
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
