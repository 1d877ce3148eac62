//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fault is one thing that hangs or is gone on a node that runs.
type fault struct {
	name  string
	begin func(t *testing.T, m *machine) (end func())
	says  []string // lines of mk status begin with these
	shows []string // and these are shown nevertheless
}

// TestFaults starts one node and injects one fault after the other. While it
// lasts, mk status answers within 3 seconds and mk inspect within 60: what does
// not answer is a line, the rest is shown. Afterwards the node recovers.
func TestFaults(t *testing.T) {
	m := newMachine(t, 23, true)
	empty := m.answer("status", "--wait-ready")
	if empty.code != 4 || !strings.Contains(empty.errs, "no node was ever started here") || !strings.Contains(empty.errs, "sudo mk start") {
		t.Errorf("without a node: %s", empty)
	}
	m.run("mk", "start", "--name", "faulty")
	services := []string{"  containerd   running", "  etcd         running", "  kubelite     running"}
	for _, f := range []fault{
		{"the API server hangs", stopService("kubelite"), []string{"API server: no answer in"}, services},
		{"etcd hangs", stopService("etcd"), []string{"datastore: no answer in"}, services},
		{"containerd hangs", stopService("containerd"), []string{"containerd: no answer in"}, services},
		{"the API server is gone", gone("kubelite"), []string{"API server: ", "services: no answer in"}, nil},
		{"etcd is gone", gone("etcd"), []string{"datastore: ", "services: no answer in"}, nil},
		{"containerd is gone", gone("containerd"), []string{"containerd: ", "services: no answer in"}, nil},
		{"all are gone", gone("kubelite", "etcd", "containerd"), []string{"API server: ", "datastore: ", "containerd: ", "services: no answer in"}, nil},
		{"a plugin hangs", stopPlugin, nil, append(services, "mk is running: faulty", "`mk refresh-certs` ")},
		{"a plugin is gone", losePlugin, nil, append(services, "mk is running: faulty")},
		{"parts of the disk hang", inParts(dead), []string{
			"certificates: " + m.Root + "/certs: no answer in", "journal: " + m.Root + "/var/journal: no answer in", "plugins: " + m.Root + "/plugins: no answer in",
		}, services},
		{"the whole disk hangs", func(t *testing.T, m *machine) func() { return dead(t, m, m.Root) }, []string{"disk: " + m.Root}, services},
		{"the whole disk is gone", func(t *testing.T, m *machine) func() { return lost(t, m, m.Root) }, []string{"disk: " + m.Root}, services},
		{"parts of the disk are gone", inParts(lost), []string{"certificates: ", "journal: ", "plugins: "}, services},
	} {
		t.Run(f.name, func(t *testing.T) { f.inject(t, m) })
	}
	t.Run("a wait that is of no use", func(t *testing.T) { hopelessWaits(t, m) })
}

func (f fault) inject(t *testing.T, m *machine) {
	end := f.begin(t, m)
	over := false
	defer func() {
		if !over {
			end()
		}
	}()
	st := m.answer("status")
	if st.took > 3*time.Second {
		t.Errorf("mk status took %s", st.took)
	}
	for _, line := range f.says {
		if !strings.Contains("\n"+st.out, "\n"+line) || st.code != 4 {
			t.Errorf("mk status does not say %q, and exit 4:\n%s", line, st)
		}
	}
	for _, line := range f.shows {
		if !strings.Contains("\n"+st.out, "\n"+line) {
			t.Errorf("mk status does not show %q:\n%s", line, st)
		}
	}
	report := filepath.Join(passable(t), "report.tar.gz")
	in := m.answer("inspect", "--to", report)
	if in.took > time.Minute || in.code != 0 {
		t.Errorf("mk inspect: %s", in)
	}
	list := m.run("tar", "-tzf", report)
	for _, part := range []string{"status.json", "machine.txt", "network.json", "problems.txt"} {
		if !strings.Contains(list, part) {
			t.Errorf("the report holds no %s:\n%s", part, list)
		}
	}
	over = true
	end()
	began := time.Now()
	m.run("mk", "status", "--wait-ready", "--timeout", "4m")
	t.Logf("status %s, inspect %s, Ready %s after the fault ended", round(st.took), round(in.took), round(time.Since(began)))
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// answered is what one run of mk led to.
type answered struct {
	out, errs string
	code      int
	took      time.Duration
}

func (a answered) String() string {
	return fmt.Sprintf("exit %d after %s\n%s%s", a.code, round(a.took), a.out, a.errs)
}

// answer runs mk, whatever it ends with.
func (m *machine) answer(words ...string) answered {
	m.t.Helper()
	return m.answerOf("mk", words...)
}

func (m *machine) answerOf(name string, words ...string) answered {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := m.Command(ctx, name, words...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || ctx.Err() != nil) {
		m.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(words, " "), err, out.String(), errs.String())
	}
	return answered{out.String(), errs.String(), cmd.ProcessState.ExitCode(), time.Since(began)}
}

// pid is the process of a service, which may be about to start again.
func (m *machine) pid(name string) int {
	m.t.Helper()
	pid := 0
	m.eventually(time.Minute, func() error {
		var st struct {
			Services []struct {
				Name string
				PID  int
			}
		}
		a := m.answer("status", "-o", "json")
		if err := json.Unmarshal([]byte(a.out), &st); err != nil {
			return fmt.Errorf("%w\n%s", err, a)
		}
		for _, s := range st.Services {
			if s.Name == name && s.PID > 0 {
				pid = s.PID
				return nil
			}
		}
		return fmt.Errorf("%s does not run: %s", name, a)
	})
	return pid
}

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Errorf("signal %d to process %d: %v", s, pid, err)
	}
}

func stopService(name string) func(*testing.T, *machine) func() {
	return func(t *testing.T, m *machine) func() {
		pid := m.pid(name)
		signal(t, pid, syscall.SIGSTOP)
		return func() { signal(t, pid, syscall.SIGCONT) }
	}
}

// gone kills what serves, and stops who would start it again.
func gone(names ...string) func(*testing.T, *machine) func() {
	return func(t *testing.T, m *machine) func() {
		var pids []int
		for _, name := range names {
			pids = append(pids, m.pid(name))
		}
		daemon := parent(t, pids[0])
		signal(t, daemon, syscall.SIGSTOP)
		for _, p := range pids {
			signal(t, p, syscall.SIGKILL)
		}
		return func() { signal(t, daemon, syscall.SIGCONT) }
	}
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	p, _ := family(pid)
	if p <= 1 {
		t.Fatalf("process %d has no parent that is ours", pid)
	}
	return p
}

// family is a process's parent and its program as argv names it.
func family(pid int) (parent int, program string) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, ""
	}
	if fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(fields) > 1 {
		parent, _ = strconv.Atoi(fields[1])
	}
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	program, _, _ = strings.Cut(string(cmdline), "\x00")
	return parent, program
}

// stopPlugin stops the certs plugin while it renews.
func stopPlugin(t *testing.T, m *machine) func() {
	cmd := m.Command(t.Context(), "mk", "refresh-certs")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	plugin := 0
	for deadline := time.Now().Add(2 * time.Minute); plugin == 0 && time.Now().Before(deadline) && runs(cmd.Process.Pid); {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			pid, _ := strconv.Atoi(e.Name())
			if p, program := family(pid); program == "local" && p == cmd.Process.Pid {
				signal(t, pid, syscall.SIGSTOP)
				plugin = pid
			}
		}
	}
	if plugin == 0 {
		_ = cmd.Wait()
		t.Fatalf("no plugin was seen: %s", out.String())
	}
	return func() {
		_ = syscall.Kill(plugin, syscall.SIGCONT) // it may have been ended for its silence
		_ = cmd.Wait()
		m.run("mk", "refresh-certs")
	}
}

// runs reports whether a process is there and has not ended.
func runs(pid int) bool {
	state := stateOf(pid)
	return state != "" && state != "Z"
}

// stateOf is the kernel's letter for what a process is at; T is stopped.
func stateOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return rest[:min(1, len(rest))]
}

// losePlugin takes the plugins' programs away.
func losePlugin(t *testing.T, m *machine) func() {
	at := filepath.Join(m.Root, "plugins/store")
	if err := os.Rename(at, at+".away"); err != nil {
		t.Fatal(err)
	}
	if a := m.answer("doctor", "plugins", "--check"); a.code != 4 || !strings.Contains(a.out, "certs/local") {
		t.Errorf("mk doctor: %s", a)
	}
	return func() {
		if err := os.Rename(at+".away", at); err != nil {
			t.Error(err)
		}
	}
}

// dead puts over a folder of the machine a file system that never answers:
// nobody reads what the kernel asks.
func dead(t *testing.T, m *machine, dir string) (revive func()) {
	t.Helper()
	fd, unmount := silent(t, m, dir)
	return func() {
		if err := errors.Join(unmount(), unix.Close(fd)); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	}
}

// silent puts it there, and answers who would have to answer.
func silent(t *testing.T, m *machine, dir string) (fd int, unmount func() error) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open /dev/fuse: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := m.Inside(func() error { return unix.Mount("dead", dir, "fuse", 0, options) }); err != nil {
		t.Fatalf("mount over %s: %v", dir, err)
	}
	return fd, func() error {
		return m.Inside(func() error { return unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH) })
	}
}

// lost is a file system that answers every question with an error, as a disk
// does that is gone.
func lost(t *testing.T, m *machine, dir string) (revive func()) {
	t.Helper()
	fd, unmount := silent(t, m, dir)
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
	return func() {
		if err := unmount(); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	}
}

// inParts does it to folders of a node.
func inParts(do func(*testing.T, *machine, string) func()) func(*testing.T, *machine) func() {
	return func(t *testing.T, m *machine) func() {
		var all []func()
		for _, dir := range []string{"certs", "plugins", "var/journal", "var/log", "args", "credentials"} {
			all = append(all, do(t, m, filepath.Join(m.Root, dir)))
		}
		return func() {
			for _, revive := range all {
				revive()
			}
		}
	}
}

// hopelessWaits has waits end with the failing service, its last error and the
// next command: late where the node may yet become ready, early where not.
func hopelessWaits(t *testing.T, m *machine) {
	t.Run("the API server hangs", func(t *testing.T) {
		end := stopService("kubelite")(t, m)
		a := m.answer("status", "--wait-ready", "--timeout", "5s")
		end()
		wants(t, a, "mk: not ready after 5s: kubelite runs", "waiting for the API server", "why   kubelite: ", "next  mk logs kubelite --since 5m")
		if a.took > 7*time.Second || !strings.Contains(a.errs, "waiting for the API server") {
			t.Errorf("%s", a)
		}
		m.run("mk", "status", "--wait-ready", "--timeout", "4m")
	})
	t.Run("a service starts again and again", func(t *testing.T) {
		file := filepath.Join(m.Root, "args/kube-apiserver")
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(good, "--no-such-flag=1\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		signal(t, m.pid("kubelite"), syscall.SIGKILL)
		a := m.answer("status", "--wait-ready", "--timeout", "4m")
		wants(t, a, "kubelite restarts again and again", "no-such-flag", "next  mk logs kubelite --since 5m")
		t.Logf("%s", a)
		if a.took > 2*time.Minute {
			t.Errorf("%s", a)
		}
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
		m.run("mk", "restart", "kubelite")
		m.run("mk", "status", "--wait-ready", "--timeout", "4m")
	})
	t.Run("the node is stopped", func(t *testing.T) {
		m.run("mk", "stop")
		a := m.answer("status", "--wait-ready", "--timeout", "4m")
		wants(t, a, "mk: not ready: the node is stopped", "next  sudo mk start")
		if a.took > 5*time.Second {
			t.Errorf("%s", a)
		}
	})
}

func wants(t *testing.T, a answered, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.errs, text) || a.code != 4 {
			t.Errorf("it does not say %q, and exit 4:\n%s", text, a)
		}
	}
}
