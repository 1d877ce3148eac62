package pluginhost

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolation says in which cell a plugin runs.
type isolation struct {
	uid     uint32
	private bool // own namespaces and user; false for authors' tools, which run it as the caller
	network bool // the network of the host
}

// folders are what a plugin may use beside what every program needs.
type folders struct {
	read  []string
	write []string
}

func (c isolation) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if !c.private {
		return a
	}
	a.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC
	if !c.network {
		a.Cloneflags |= syscall.CLONE_NEWNET
	}
	a.Credential = &syscall.Credential{Uid: c.uid, Gid: c.uid, Groups: []uint32{}}
	return a
}

// fork starts cmd from a thread that can never gain privileges and sees only
// the plugin's files. The thread stays until the process has ended, because
// the death signal follows the thread and not the host.
func (c isolation) fork(cmd *exec.Cmd, f folders) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		if unix.Gettid() == unix.Getpid() {
			// The main thread speaks for the process in /proc and cannot end:
			// it is kept aside until another one has forked.
			inner := make(chan error, 1)
			go func() {
				runtime.LockOSThread()
				c.forkHere(cmd, f, inner)
			}()
			started <- <-inner
			runtime.UnlockOSThread()
			return
		}
		c.forkHere(cmd, f, started)
	}()
	return <-started
}

func (c isolation) forkHere(cmd *exec.Cmd, f folders, started chan<- error) {
	if c.private {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			started <- fmt.Errorf("give up privileges: %w", err)
			return
		}
		restrictFiles(f, c.network)
	}
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	if c.private {
		limitResources(cmd.Process.Pid)
	}
	started <- nil
	waitParked(cmd.Process.Pid)
}

// limitResources bounds what one plugin can take from the machine. It is set
// from outside right after the fork, because the host's own limits must stay.
// Where the kernel refuses, as it does in containers without CAP_SYS_RESOURCE,
// limits are left out: the cell holds without them.
func limitResources(pid int) {
	for _, l := range []struct {
		what int
		max  uint64
	}{
		{unix.RLIMIT_CORE, 0},            // a core holds secrets
		{unix.RLIMIT_NOFILE, 4096},       // files
		{unix.RLIMIT_NPROC, 1024},        // threads of its user, in all its processes
		{unix.RLIMIT_MEMLOCK, 64 << 10},  // memory that cannot be swapped
		{unix.RLIMIT_MSGQUEUE, 64 << 10}, // queues
		{unix.RLIMIT_FSIZE, 4 << 30},     // one file
	} {
		_ = unix.Prlimit(pid, l.what, &unix.Rlimit{Cur: l.max, Max: l.max}, nil)
	}
}
