package servicetest

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/core/service"
)

func startsAndStops(f *Fixture) {
	f.Apply(f.Define("one", Behavior{Listen: f.Path("s")}))
	if st := f.Status("one"); st.State != service.Stopped || st.PID != 0 {
		f.t.Fatalf("after apply: %s", describe(st))
	}
	for range 2 { // a service can be started again
		f.Start("one")
		st := f.Status("one")
		if st.State != service.Running || !Alive(st.PID) || st.Since.IsZero() {
			f.t.Fatalf("after start: %s", describe(st))
		}
		if err := (service.Ready{Unix: f.Path("s")}).Try(f.ctx()); err != nil {
			f.t.Fatalf("after start: %v", err)
		}
		f.Start("one") // nothing happens
		if again := f.Status("one"); again.PID != st.PID {
			f.t.Fatalf("a second start made process %d out of %d", again.PID, st.PID)
		}
		f.Stop("one")
		f.Stop() // nothing happens
		if after := f.Status("one"); after.State != service.Stopped || Alive(st.PID) {
			f.t.Fatalf("after stop: %s", describe(after))
		}
	}
}

func order(f *Fixture) {
	journal := f.Path("journal")
	var defs []service.Definition
	for name, after := range map[string][]string{"a": {"m"}, "m": {"z", "unknown"}, "z": nil} {
		d := f.Define(name, Behavior{Listen: f.Path(name + ".sock"), Journal: journal})
		d.After = after
		defs = append(defs, d)
	}
	f.Apply(defs...)
	f.Start()
	f.Stop()
	raw, err := os.ReadFile(journal)
	if err != nil {
		f.t.Fatal(err)
	}
	want := "z start\nm start\na start\na stop\nm stop\nz stop\n"
	if string(raw) != want {
		f.t.Fatalf("order:\n%swant:\n%s", raw, want)
	}
}

func restartsKilled(f *Fixture) {
	f.Apply(f.Define("one", Behavior{Listen: f.Path("s")}))
	f.Start()
	before := f.Status("one")
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		f.t.Fatal(err)
	}
	st := f.WaitFor("one", func(st service.Status) bool { return st.State == service.Running && st.PID != before.PID })
	if st.Restarts != 1 {
		f.t.Fatalf("after one kill: %s", describe(st))
	}
}

func twoCrashes(f *Fixture) {
	f.Apply(f.Define("one", Behavior{Listen: f.Path("s"), Crashes: 2, CountIn: f.Path("count")}))
	f.Start()
	if st := f.Status("one"); st.State != service.Running || st.Restarts != 2 {
		f.t.Fatalf("after two crashes: %s", describe(st))
	}
}

func alwaysCrashes(f *Fixture) {
	line := "E1123 10:00:00.000000       1 main.go:1] certificate is missing"
	f.Apply(f.Define("one", Behavior{Listen: f.Path("s"), Crashes: -1, Print: line + "\nbye"}))
	err := f.C.Start(f.ctx())
	if err == nil || !strings.Contains(err.Error(), "one") || !strings.Contains(err.Error(), line) {
		f.t.Fatalf("start: %v", err)
	}
	st := f.WaitFor("one", func(st service.Status) bool { return st.State == service.Backoff })
	if st.LastError != line || st.LastExit != "exit status 3" || st.Restarts < 2 {
		f.t.Fatalf("status: %s", describe(st))
	}
	f.Stop()
	if st := f.Status("one"); st.State != service.Stopped {
		f.t.Fatalf("after stop: %s", describe(st))
	}
}

func missingProgram(f *Fixture) {
	d := f.Define("one", Behavior{})
	d.Path = f.Path("missing")
	f.Apply(d)
	if err := f.C.Start(f.ctx()); err == nil || !strings.Contains(err.Error(), "one") {
		f.t.Fatalf("start: %v", err)
	}
	f.Stop()
}

func neverReady(f *Fixture) {
	d := f.Define("one", Behavior{Print: "waiting for the moon"})
	d.Ready.Unix = f.Path("never")
	f.Apply(d)
	ctx, cancel := context.WithTimeout(f.ctx(), 2*time.Second)
	defer cancel()
	err := f.C.Start(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for the moon") {
		f.t.Fatalf("start: %v", err)
	}
	if st := f.Status("one"); st.State != service.Starting {
		f.t.Fatalf("status: %s", describe(st))
	}
	f.Stop()
}

func deaf(f *Fixture) {
	d := f.Define("one", Behavior{Listen: f.Path("s"), Deaf: true})
	d.StopTimeout = 300 * time.Millisecond
	f.Apply(d)
	f.Start()
	pid := f.Status("one").PID
	f.Stop()
	if Alive(pid) {
		f.t.Fatal("it lives")
	}
}

func suspended(f *Fixture) {
	d := f.Define("one", Behavior{Listen: f.Path("s")})
	d.StopTimeout = 300 * time.Millisecond
	f.Apply(d)
	f.Start()
	pid := f.Status("one").PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		f.t.Fatal(err)
	}
	if st := f.Status("one"); st.PID != pid {
		f.t.Fatalf("status of a suspended service: %s", describe(st))
	}
	f.Stop()
	if Alive(pid) {
		f.t.Fatal("it lives")
	}
}

// forked returns the number of the service's own child.
func (f *Fixture) forked(mode service.KillMode) int {
	d := f.Define("one", Behavior{Listen: f.Path("s"), Fork: f.Path("pid")})
	d.KillMode = mode
	d.StopTimeout = time.Second
	f.Apply(d)
	f.Start()
	raw, err := os.ReadFile(f.Path("pid"))
	if err != nil {
		f.t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil || !Alive(pid) {
		f.t.Fatalf("child %q: %v", raw, err)
	}
	f.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

func group(f *Fixture) {
	pid := f.forked(service.KillGroup)
	f.Stop()
	Eventually(f.t, func() bool { return !Alive(pid) }, func() string { return "the service's child lives" })
}

func processOnly(f *Fixture) {
	pid := f.forked(service.KillProcess)
	f.Stop()
	if !Alive(pid) {
		f.t.Fatal("the service's child was ended with it")
	}
}

func surroundings(f *Fixture) {
	dump := f.Path("dump")
	d := f.Define("one", Behavior{Dump: dump, Listen: f.Path("s")})
	d.Argv = []string{"one", "--a=b c", "$HOME ${HOME} $$", "%n %%", `"quoted" 'single' \back`, "line\nbreak\ttab", ";", "", "ünï"}
	d.Env = append(d.Env, "PLAIN=1", `HARD=a "b" $PATH %h \n`+"\tx", "EMPTY=")
	d.SecretEnv = []string{`SECRET=http://u:hush-hush@p "x" $PATH %h \`}
	d.Dir = f.Dir
	d.LimitNOFILE = 512
	f.Apply(d)
	f.Start()
	raw, err := os.ReadFile(dump)
	if err != nil {
		f.t.Fatal(err)
	}
	var got Dumped
	if err := json.Unmarshal(raw, &got); err != nil {
		f.t.Fatal(err)
	}
	if !slices.Equal(got.Args, d.Argv) {
		f.t.Errorf("arguments %q, want %q", got.Args, d.Argv)
	}
	for _, e := range slices.Concat(d.Env, d.SecretEnv) {
		if !slices.Contains(got.Env, e) {
			f.t.Errorf("variable %q is not in %q", e, got.Env)
		}
	}
	if slices.ContainsFunc(got.Env, func(e string) bool { return strings.HasPrefix(e, "GOCOVERDIR=") || strings.HasPrefix(e, "GOFLAGS=") }) {
		f.t.Errorf("variables were inherited: %q", got.Env)
	}
	log := f.Status("one").Log
	if want := []string{"/dev/null", log, log}; !slices.Equal(got.Files, want) {
		f.t.Errorf("open files %q, want %q", got.Files, want)
	}
	if got.Dir != f.Dir || got.Limit != 512 {
		f.t.Errorf("folder %q, limit %d", got.Dir, got.Limit)
	}
	for _, dir := range []string{f.Dir, "/etc/systemd/system"} {
		for _, file := range readable(f.t, dir, "hush-hush") {
			f.t.Errorf("%s is read by others and holds a secret", file)
		}
	}
	d.SecretEnv = nil
	f.Apply(d)
	f.Stop()
	f.Start()
	if raw, err = os.ReadFile(dump); err != nil || strings.Contains(string(raw), "hush-hush") {
		f.t.Errorf("the secret is still there (%v)", err)
	}
}

// readable are the files that others than root read and that hold a text.
func readable(t *testing.T, dir, text string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) || err == nil && !d.Type().IsRegular() {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode().Perm()&0o044 == 0 {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), text) {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func names(f *Fixture) {
	f.Apply(f.Define("kubelite", Behavior{Listen: f.Path("s")}))
	if err := f.C.Start(f.ctx(), "nobody"); !errors.Is(err, service.ErrUnknown) {
		f.t.Fatalf("start of an unknown service: %v", err)
	}
	f.Start("apiserver", "kubelet")
	if st := f.Status("kubelite"); st.State != service.Running {
		f.t.Fatalf("after start of its parts: %s", describe(st))
	}
	bad := f.Define("../x", Behavior{})
	if err := f.C.Apply(f.ctx(), []service.Definition{bad}); err == nil {
		f.t.Fatal("a definition with a bad name was applied")
	}
}

func applyAgain(f *Fixture) {
	d := f.Define("one", Behavior{Listen: f.Path("s")})
	f.Apply(d)
	f.Start()
	pid := f.Status("one").PID
	d.Argv = []string{"renamed"}
	f.Apply(d, f.Define("two", Behavior{}))
	if st := f.Status("one"); st.PID != pid || st.State != service.Running {
		f.t.Fatalf("after a second apply: %s", describe(st))
	}
	if err := f.C.Restart(f.ctx(), "one"); err != nil {
		f.t.Fatal(err)
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(f.Status("one").PID) + "/cmdline")
	if err != nil || string(raw) != "renamed\x00" {
		f.t.Fatalf("command line %q, %v", raw, err)
	}
}

func restart(f *Fixture) {
	f.Apply(f.Define("one", Behavior{Listen: f.Path("s")}))
	f.Start()
	pid := f.Status("one").PID
	if err := f.C.Restart(f.ctx()); err != nil {
		f.t.Fatal(err)
	}
	st := f.Status("one")
	if st.PID == pid || st.State != service.Running || st.Restarts != 0 {
		f.t.Fatalf("after restart: %s", describe(st))
	}
}

func remove(f *Fixture) {
	r, ok := f.C.(service.Remover)
	if !ok {
		f.t.Fatal("it cannot remove")
	}
	f.Apply(f.Define("one", Behavior{Listen: f.Path("s")}))
	f.Start()
	if err := r.Remove(f.ctx(), "one"); err == nil {
		f.t.Fatal("a running service was removed")
	}
	f.Stop()
	if err := r.Remove(f.ctx(), "one", "unknown"); err != nil {
		f.t.Fatal(err)
	}
	if all, err := f.C.Status(f.ctx()); err != nil || len(all) != 0 {
		f.t.Fatalf("after remove: %+v, %v", all, err)
	}
}
