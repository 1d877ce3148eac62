package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTimeout is how long the pipes of a process that has ended are read:
// a grandchild may hold the other end for ever.
const drainTimeout = 300 * time.Millisecond

// isolation says in which cell a plugin runs.
type isolation struct {
	uid     uint32
	private bool // own namespaces and user; false for authors' tools, which run it as the caller
	network bool // the network of the host
}

// processRunner is a go-plugin runner that starts one process in its cell and ends
// everything it started.
type processRunner struct {
	path    string   // program, for messages
	argv    []string // argv[0] and arguments
	program *os.File // sealed copy, or nil to run path itself
	env     []string
	dir     string // working folder
	sockets string // the only folder whose sockets are dialed
	cell    isolation

	cmd      *exec.Cmd
	stdout   *os.File
	stderr   *os.File
	done     chan struct{} // closed when the process was reaped
	waitErr  error
	killOnce sync.Once
}

// Start starts the process. Its parent dies with it only if the thread that
// forked lives as long as the host, so one thread is kept for that.
func (r *processRunner) Start(context.Context) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make a pipe: %w", err), outR.Close(), outW.Close())
	}
	r.stdout, r.stderr = outR, errR
	path := r.path
	if r.program != nil {
		path = "/proc/self/fd/" + strconv.Itoa(int(r.program.Fd()))
	}
	r.cmd = &exec.Cmd{
		Path: path, Args: r.argv, Env: r.env, Dir: r.dir,
		Stdout: outW, Stderr: errW, // Stdin stays nil: /dev/null, so that it cannot eat a token typed to mk
		SysProcAttr: r.attributes(),
	}
	r.done = make(chan struct{})
	err = forkUnprivileged(r.cmd, r.cell.private)
	closeErr := errors.Join(outW.Close(), errW.Close())
	if r.program != nil {
		closeErr = errors.Join(closeErr, r.program.Close())
	}
	if err != nil {
		return errors.Join(startError(err), outR.Close(), errR.Close())
	}
	go r.reap()
	return closeErr
}

func (r *processRunner) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if !r.cell.private {
		return a
	}
	a.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC
	if !r.cell.network {
		a.Cloneflags |= syscall.CLONE_NEWNET
	}
	a.Credential = &syscall.Credential{Uid: r.cell.uid, Gid: r.cell.uid, Groups: []uint32{}}
	return a
}

// forkUnprivileged starts cmd from a thread that can never gain privileges
// and that stays until the process has ended, because the death signal
// follows the thread and not the host.
func forkUnprivileged(cmd *exec.Cmd, unprivileged bool) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		if unprivileged {
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				started <- fmt.Errorf("give up privileges: %w", err)
				return
			}
		}
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		waitParked(cmd.Process.Pid)
	}()
	return <-started
}

// waitParked keeps the calling thread until a process has ended, without
// reaping it.
func waitParked(pid int) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// startError says what a refused exec means in the user's words.
func startError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return errors.New("its program cannot be run on this machine (wrong format)")
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("this process may not make the namespaces that plugins run in: %w", err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("its program or interpreter is not there: %w", err)
	}
	return fmt.Errorf("start its program: %w", err)
}

// reap waits for the leader, ends what it left behind and bounds how long the
// pipes are read.
func (r *processRunner) reap() {
	defer close(r.done)
	r.waitErr = r.cmd.Wait()
	r.killGroup()
	until := time.Now().Add(drainTimeout)
	_ = r.stdout.SetReadDeadline(until)
	_ = r.stderr.SetReadDeadline(until)
}

func (r *processRunner) killGroup() {
	if r.cmd != nil && r.cmd.Process != nil {
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) // ESRCH: nobody is left
	}
}

// Wait waits until the process has ended.
func (r *processRunner) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.waitErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill ends the process and all it started. It does not wait.
func (r *processRunner) Kill(context.Context) error {
	r.killOnce.Do(r.killGroup)
	return nil
}

// Stdout is the pipe that the handshake is read from.
func (r *processRunner) Stdout() io.ReadCloser { return r.stdout }

// Stderr is the pipe that the log is read from.
func (r *processRunner) Stderr() io.ReadCloser { return r.stderr }

// Name is the program's path.
func (r *processRunner) Name() string { return r.path }

// ID is the pid; empty for a process that did not start.
func (r *processRunner) ID() string {
	if r.cmd == nil || r.cmd.Process == nil {
		return ""
	}
	return strconv.Itoa(r.cmd.Process.Pid)
}

// Diagnose has nothing to add: the log is shown with the error.
func (r *processRunner) Diagnose(context.Context) string { return "" }

// PluginToHost refuses every address but a socket in the plugin's own folder:
// otherwise a plugin could have the host speak to someone else.
func (r *processRunner) PluginToHost(network, addr string) (string, string, error) {
	clean := filepath.Clean(addr)
	if network != "unix" || filepath.Dir(clean) != r.sockets || strings.HasPrefix(filepath.Base(clean), ".") {
		return "", "", fmt.Errorf("it wants to be reached at %s %q, not at a socket in its folder %s", network, addr, r.sockets)
	}
	if info, err := os.Lstat(clean); err != nil || info.Mode().Type() != os.ModeSocket {
		return "", "", fmt.Errorf("it wants to be reached at %q, which is not a socket", addr)
	}
	return network, clean, nil
}

// HostToPlugin is the identity: both see the same file system.
func (r *processRunner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
