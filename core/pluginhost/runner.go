package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTimeout is how long the pipes of a process that has ended are read:
// a grandchild may hold the other end for ever.
const drainTimeout = 300 * time.Millisecond

// processRunner is a go-plugin runner that starts one process in its cell and
// ends everything it started. It is used once.
type processRunner struct {
	path    string   // program, for messages
	argv    []string // argv[0] and arguments
	program *os.File // sealed copy, or nil to run path itself
	env     []string
	dir     string // working folder
	state   string // the plugin's own folder, may be empty
	sockets string // the only folder whose sockets are dialed
	cell    isolation
	log     io.Writer          // takes what is printed after the handshake
	begun   func(logged int64) // told how much was logged before it

	logged  atomic.Int64 // bytes read of stderr
	stdout  *os.File
	stderr  *os.File
	done    chan struct{} // closed when the process was reaped
	drained chan struct{} // closed when its last line was read, too

	mu      sync.Mutex
	cmd     *exec.Cmd // nil until it runs
	ended   bool      // it must not run, or not any more
	reaped  bool      // its pid may be another's now
	waitErr error
	once    sync.Once
}

// errEnded says that a start was called off.
var errEnded = errors.New("the start was called off")

// Start starts the process.
func (r *processRunner) Start(context.Context) error {
	defer closeFile(r.program) //nolint:errcheck // only read
	outR, outW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make a pipe: %w", err), outR.Close(), outW.Close())
	}
	path := r.path
	if r.program != nil {
		path = "/proc/self/fd/" + strconv.Itoa(int(r.program.Fd()))
	}
	cmd := &exec.Cmd{
		Path: path, Args: r.argv, Env: r.env, Dir: r.dir,
		Stdout: outW, Stderr: errW, // Stdin stays nil: /dev/null, so that it cannot eat a token typed to mk
		SysProcAttr: r.cell.attributes(),
	}
	if err := r.run(cmd); err != nil {
		return errors.Join(startError(err), outR.Close(), errR.Close(), outW.Close(), errW.Close())
	}
	r.stdout, r.stderr = outR, errR
	go r.reap(cmd)
	return errors.Join(outW.Close(), errW.Close())
}

// run forks, unless the start was called off before.
func (r *processRunner) run(cmd *exec.Cmd) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return errEnded
	}
	if err := r.cell.fork(cmd, r.folders()); err != nil {
		return err
	}
	r.cmd = cmd
	return nil
}

// folders are those that the plugin may use beside the system's own.
func (r *processRunner) folders() folders {
	return folders{read: []string{r.dir, filepath.Dir(r.path)}, write: []string{r.sockets, r.state}}
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
// pipes are read. The group is ended while the leader still holds its pid:
// later that number may name somebody else.
func (r *processRunner) reap(cmd *exec.Cmd) {
	defer close(r.done)
	waitParked(cmd.Process.Pid)
	r.mu.Lock()
	killGroup(cmd)
	r.reaped = true
	r.mu.Unlock()
	r.waitErr = cmd.Wait()
	until := time.Now().Add(drainTimeout)
	_ = r.stdout.SetReadDeadline(until)
	_ = r.stderr.SetReadDeadline(until)
}

func killGroup(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ESRCH: nobody is left
}

// end kills the process and its group, or keeps it from starting. It does not
// wait, and may be called at any time and again.
func (r *processRunner) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.cmd != nil && !r.reaped {
		killGroup(r.cmd)
	}
}

// Wait waits until the process has ended. go-plugin calls it once it has read
// both pipes.
func (r *processRunner) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		r.once.Do(func() {
			_, _ = r.stdout.Close(), r.stderr.Close()
			close(r.drained)
		})
		return r.waitErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill ends the process and all it started. It does not wait.
func (r *processRunner) Kill(context.Context) error {
	r.end()
	return nil
}

// Stdout is the pipe that the handshake is read from.
func (r *processRunner) Stdout() io.ReadCloser {
	return &firstLineOnly{pipe: r.stdout, rest: r.log, first: r.firstLine}
}

// firstLine tells the log what of it was written before the handshake: what
// was read, and what still stands in the pipe. Only the kernel knows the order
// of two pipes, so this is asked before anything else is done with the line.
func (r *processRunner) firstLine() {
	for {
		read, waits := r.logged.Load(), 0
		if c, err := r.stderr.SyscallConn(); err == nil {
			_ = c.Control(func(fd uintptr) { waits, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) //nolint:gosec // a descriptor
		}
		if r.logged.Load() == read { // else some were counted twice
			r.begun(read + int64(waits))
			return
		}
	}
}

// Stderr is the pipe that the log is read from.
func (r *processRunner) Stderr() io.ReadCloser { return &counted{r.stderr, &r.logged} }

// Name is the program's path.
func (r *processRunner) Name() string { return r.path }

// ID is the pid; go-plugin takes an empty one for "never ran".
func (r *processRunner) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
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
		return "", "", fmt.Errorf("it wants to be reached at %.20s %.120q, not at a socket in its folder %s", network, addr, r.sockets)
	}
	if info, err := os.Lstat(clean); err != nil || info.Mode().Type() != os.ModeSocket {
		return "", "", fmt.Errorf("it wants to be reached at %.120q, which is not a socket", addr)
	}
	return network, clean, nil
}

// HostToPlugin is the identity: both see the same file system.
func (r *processRunner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

// counted counts what is read of a pipe.
type counted struct {
	*os.File
	n *atomic.Int64
}

// Read reads and counts.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// maxHandshake is how long the handshake may be.
const maxHandshake = 4 << 10

// firstLineOnly gives go-plugin the handshake and nothing after it: its reader
// of standard output gives up at a line of 64 KiB, and then the plugin blocks.
// What comes later goes to the log.
type firstLineOnly struct {
	pipe  *os.File
	rest  io.Writer
	first func()
	seen  int
	over  bool
}

// Read reads the first line; after that it returns only at the end.
func (f *firstLineOnly) Read(p []byte) (int, error) {
	if f.over {
		_, err := io.Copy(f.rest, f.pipe)
		if err == nil {
			err = io.EOF
		}
		return 0, err
	}
	n, err := f.pipe.Read(p)
	line, rest, whole := strings.Cut(string(p[:n]), "\n")
	f.seen += len(line)
	if !whole && f.seen < maxHandshake {
		return n, err
	}
	f.over = true
	f.first()
	_, _ = f.rest.Write([]byte(rest)) // the log takes anything
	n = min(len(line), max(len(p)-1, 0))
	p[n] = '\n'
	return n + 1, nil
}

// Close closes the pipe.
func (f *firstLineOnly) Close() error { return f.pipe.Close() }

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
