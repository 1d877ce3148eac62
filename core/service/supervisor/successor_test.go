package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/process"
	"mk8s.io/mk/core/service/servicetest"
)

// statusOnly makes the test binary a client that asks and then tries to stop.
const statusOnly = "MK_SUPERVISOR_TEST_CLIENT"

func runStatusOnly() {
	dir := os.Getenv(statusOnly)
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, asked := NewClient(dir).Status(ctx)
	stopped := NewClient(dir).Stop(ctx)
	_ = json.NewEncoder(os.Stdout).Encode([]bool{asked == nil, stopped == nil})
	os.Exit(0)
}

// daemon is a supervisor in a process of its own.
type daemon struct {
	t   *testing.T
	dir string
}

func detached(t *testing.T, dir string) service.Controller {
	t.Helper()
	d := daemon{t, dir}
	d.spawn()
	c := NewClient(options(dir).RunDir)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
		pid := d.pid()
		if pid == 0 { // a signal to 0 would hit the whole group of the tests
			t.Error("clean up: the supervisor is not there")
			return
		}
		_ = syscall.Kill(pid, syscall.SIGTERM)
		d.gone(pid)
	})
	return c
}

func (d daemon) spawn() {
	d.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.t.Context()), 30*time.Second)
	defer cancel()
	err = Spawn(ctx, Program{
		Path: exe, Env: []string{daemonDir + "=" + d.dir}, RunDir: options(d.dir).RunDir,
		LogFile: filepath.Join(d.dir, "daemon.log"),
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// pid finds the supervisor by its log, the way it finds its own children.
func (d daemon) pid() int {
	d.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	id, ok := process.FindLeader(exe, filepath.Join(d.dir, "daemon.log"))
	if !ok {
		return 0
	}
	return id.PID
}

func (d daemon) gone(pid int) {
	d.t.Helper()
	servicetest.Eventually(d.t, func() bool { return pid == 0 || !servicetest.Alive(pid) }, func() string { return "the supervisor lives" })
	if pid != 0 {
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}

func (d daemon) kill() {
	d.t.Helper()
	pid := d.pid()
	if pid == 0 {
		d.t.Fatal("the supervisor is not there")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		d.t.Fatalf("kill supervisor %d: %v", pid, err)
	}
	d.gone(pid)
}

func TestSuccessorTakesOver(t *testing.T) {
	t.Parallel()
	f := servicetest.NewFixture(t, detached)
	d := daemon{t, f.Dir}
	f.Apply(f.Define("kept", servicetest.Behavior{Listen: f.Path("a")}),
		f.Define("died", servicetest.Behavior{Listen: f.Path("b")}),
		f.Define("never", servicetest.Behavior{}))
	f.Start("kept", "died")
	kept, died := f.Status("kept").PID, f.Status("died").PID
	d.kill()
	if _, err := f.C.Status(t.Context()); !errors.Is(err, service.ErrNotRunning) {
		t.Fatalf("status without a supervisor: %v", err)
	}
	if err := syscall.Kill(died, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !servicetest.Alive(kept) {
		t.Fatal("a service died with its supervisor")
	}
	d.spawn()
	st := f.WaitFor("kept", func(st service.Status) bool { return st.State == service.Running })
	if st.PID != kept {
		t.Fatalf("the service was restarted: %d, was %d", st.PID, kept)
	}
	f.WaitFor("died", func(st service.Status) bool { return st.State == service.Running && st.PID != died })
	if st := f.Status("never"); st.State != service.Stopped {
		t.Fatalf("what was never wanted is %s", st.State)
	}
	// An adopted service is supervised like any other.
	if err := syscall.Kill(kept, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	st = f.WaitFor("kept", func(st service.Status) bool { return st.State == service.Running && st.PID != kept })
	if st.LastExit != "exit status unknown" {
		t.Fatalf("exit of an adopted process: %q", st.LastExit)
	}
}

func TestSuccessorFindsUnrecordedAndEndsUnwanted(t *testing.T) {
	t.Parallel()
	f := servicetest.NewFixture(t, detached)
	d := daemon{t, f.Dir}
	f.Apply(f.Define("wanted", servicetest.Behavior{Listen: f.Path("a")}),
		f.Define("unwanted", servicetest.Behavior{Listen: f.Path("b")}))
	f.Start()
	wanted, unwanted := f.Status("wanted").PID, f.Status("unwanted").PID
	d.kill()

	// As if it had been killed right after the start, and in a stop.
	path := options(f.Dir).StateFile
	records, err := loadState(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		records[i].Process = nil
		records[i].Wanted = r.Definition.Name == "wanted"
	}
	if err := saveState(path, records); err != nil {
		t.Fatal(err)
	}
	d.spawn()
	f.WaitFor("wanted", func(st service.Status) bool { return st.State == service.Running && st.PID == wanted })
	f.WaitFor("unwanted", func(st service.Status) bool { return st.State == service.Stopped })
	if servicetest.Alive(unwanted) {
		t.Fatal("what is not wanted runs on unsupervised")
	}
}

func TestHandoverAndTermination(t *testing.T) {
	t.Parallel()
	f := servicetest.NewFixture(t, detached)
	d := daemon{t, f.Dir}
	f.Apply(f.Define("one", servicetest.Behavior{Listen: f.Path("a")}))
	f.Start()
	one, first := f.Status("one").PID, d.pid()
	if err := f.C.(*Client).Handover(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.gone(first)
	if !servicetest.Alive(one) {
		t.Fatal("a handover ended the service")
	}
	d.spawn()
	f.WaitFor("one", func(st service.Status) bool { return st.State == service.Running && st.PID == one })
}

func TestOneSupervisorPerFolder(t *testing.T) {
	t.Parallel()
	f := servicetest.NewFixture(t, inProcess)
	opts := options(f.Dir)
	if err := Run(t.Context(), opts); !errors.Is(err, ErrRunning) {
		t.Fatalf("second supervisor: %v", err)
	}
	if err := Spawn(t.Context(), Program{Path: "/missing", RunDir: opts.RunDir}); err != nil {
		t.Fatalf("spawn beside one that answers: %v", err)
	}
}

func TestSpawnTellsWhyItEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(options(dir).StateFile, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = Spawn(t.Context(), Program{Path: exe, Env: []string{daemonDir + "=" + dir}, RunDir: options(dir).RunDir, LogFile: filepath.Join(dir, "daemon.log")})
	if err == nil || !strings.Contains(err.Error(), "services.json") {
		t.Fatalf("spawn on a broken state: %v", err)
	}
}

// A supervisor that is suspended answers nobody; who asks gets away in time.
func TestStatusOfSuspendedSupervisor(t *testing.T) {
	t.Parallel()
	f := servicetest.NewFixture(t, detached)
	pid := daemon{t, f.Dir}.pid()
	if pid == 0 {
		t.Fatal("the supervisor is not there")
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	servicetest.Eventually(t, func() bool {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && strings.Contains(string(raw), ") T ")
	}, func() string { return "it is not suspended" })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := f.C.Status(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*time.Second {
		t.Fatalf("status after %s: %v", time.Since(began), err)
	}
}

// Only root may be tested against others: elsewhere nobody else can be played.
func TestOthersMayAskOnly(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("not root: the refusal cannot be provoked here")
		return
	}
	f := servicetest.NewFixture(t, inProcess)
	run := options(f.Dir).RunDir
	for _, err := range []error{os.Chmod(f.Dir, 0o755), os.Chmod(SocketPath(run), 0o666)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.Apply(f.Define("one", servicetest.Behavior{Listen: f.Path("a")}))
	f.Start()
	exe := filepath.Join(f.Dir, "client")
	raw, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = []string{statusOnly + "=" + run}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "[true,false]" {
		t.Fatalf("asked, stopped: %s %v", out, err)
	}
	if st := f.Status("one"); st.State != service.Running {
		t.Fatalf("after a refused stop: %s", st.State)
	}
}
