// Package systemd boots a real systemd in a folder, as process 1 of its own
// namespaces, for tests that need one.
//
// It needs root and a folder made by make-root.sh. The machine has no network
// but loopback, or a network namespace that was made for it. It is for tests
// only.
package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Machine is a booted systemd.
type Machine struct {
	dir    string
	cmd    *exec.Cmd
	ended  chan struct{}
	init   int
	output *bytes.Buffer
}

// Boot boots the folder dir with boot.sh in scripts and waits until systemd
// answers. netns names a network namespace, or is empty. The machine ends with
// Kill, or with the calling process.
func Boot(ctx context.Context, scripts, dir, netns string) (*Machine, error) {
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err != nil {
		return nil, fmt.Errorf("no complete root folder (make-root.sh makes one): %w", err)
	}
	script, err := filepath.Abs(filepath.Join(scripts, "boot.sh"))
	if err != nil {
		return nil, fmt.Errorf("find boot.sh: %w", err)
	}
	m := &Machine{dir: dir, ended: make(chan struct{}), output: &bytes.Buffer{}}
	// Not bound to ctx, which is of the boot only.
	m.cmd = exec.Command(script, dir, netns)
	m.cmd.Stdout, m.cmd.Stderr = m.output, m.output
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("boot %s: %w", dir, err)
	}
	go func() {
		_ = m.cmd.Wait() // it is killed
		close(m.ended)
	}()
	for {
		if m.up(ctx) {
			return m, nil
		}
		select {
		case <-m.ended:
			return nil, fmt.Errorf("boot %s: it ended: %s", dir, m.output)
		case <-ctx.Done():
			m.Kill()
			return nil, fmt.Errorf("boot %s: not up: %w: %s", dir, ctx.Err(), m.output)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// up reports whether systemd has reached its target; "degraded" counts, as
// some units of an ordinary Debian cannot work in a container.
func (m *Machine) up(ctx context.Context) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", m.cmd.Process.Pid, m.cmd.Process.Pid))
	if err == nil {
		m.init, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
	} else {
		m.init = m.childOf(m.cmd.Process.Pid)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.init))
	if err != nil || strings.TrimSpace(string(comm)) != "systemd" {
		return false
	}
	var out bytes.Buffer
	err = m.Run(ctx, &out, "systemctl", "is-system-running")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false
	}
	state := strings.TrimSpace(out.String())
	return state == "running" || state == "degraded"
}

// childOf finds a child where the kernel lists none (CONFIG_PROC_CHILDREN).
func (m *Machine) childOf(parent int) int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0
	}
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		pid, rest, _ := strings.Cut(string(raw), " ")
		fields := strings.Fields(rest[strings.LastIndexByte(rest, ')')+1:])
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			n, _ := strconv.Atoi(pid)
			return n
		}
	}
	return 0
}

// Run runs a command inside, with the machine's root, and writes what it says
// to out.
func (m *Machine) Run(ctx context.Context, out io.Writer, argv ...string) error {
	args := append([]string{
		"--target", strconv.Itoa(m.init), "--pid", "--mount", "--uts", "--ipc", "--net", "--root", "--wd=/", "--",
	}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s inside: %w", argv[0], err)
	}
	return nil
}

// Kill ends the machine as a power cut does, and waits until it is gone.
func (m *Machine) Kill() {
	_ = m.cmd.Process.Kill() // --kill-child takes process 1, and so all, along
	<-m.ended
	for m.init > 0 && syscall.Kill(m.init, 0) == nil {
		time.Sleep(10 * time.Millisecond)
	}
	// The kernel lets go of cgroups a moment after their last process ended.
	for range 200 {
		if m.removeCgroups() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// removeCgroups removes what boot.sh made, and reports whether it is gone.
func (m *Machine) removeCgroups() bool {
	name := fmt.Sprintf("mk-systemd-%d", m.cmd.Process.Pid)
	found, _ := filepath.Glob("/sys/fs/cgroup/*/" + name) // the pattern is right
	gone := true
	for _, top := range append(found, "/sys/fs/cgroup/"+name) {
		var dirs []string
		_ = filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			gone = os.Remove(d) == nil && gone
		}
	}
	return gone
}
