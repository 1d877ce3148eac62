// Package servicetest is the suite that every service.Controller passes, with
// a real process as service: the test binary itself, executed again. A test
// package calls RunChild in its TestMain and Run with a constructor.
//
// It is for tests only. It does not test what controllers do beyond the
// interface, such as surviving the end of their own process.
package servicetest

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/core/service"
)

// patience bounds every wait of the suite.
const patience = 60 * time.Second

// Fixture is a controller under test.
type Fixture struct {
	t   *testing.T
	C   service.Controller
	Dir string // short, so that sockets in it have names that fit
}

// Constructor makes a fresh controller that defines nothing. What it leaves
// is cleaned up by t.Cleanup. dir is for its files.
type Constructor func(t *testing.T, dir string) service.Controller

// Run runs the suite. What counts restarts runs first and alone: every test
// defines services, for which systemd is reloaded, and systemd before 254
// counts a restart again when it is reloaded during the pause before it.
func Run(t *testing.T, construct Constructor) {
	for name, test := range map[string]func(*Fixture){
		"starts again what was killed":       restartsKilled,
		"start outlives crashes":             twoCrashes,
		"start gives up with the error line": alwaysCrashes,
	} {
		t.Run(name, func(t *testing.T) { test(NewFixture(t, construct)) })
	}
	for name, test := range map[string]func(*Fixture){
		"starts, tells and stops":                        startsAndStops,
		"starts in order and stops in the reverse":       order,
		"start of a missing program is an error":         missingProgram,
		"start ends with its context":                    neverReady,
		"stop ends what ignores its signal":              deaf,
		"stop ends what is suspended":                    suspended,
		"stop ends the whole group":                      group,
		"stop with kill mode process leaves children":    processOnly,
		"gives arguments, variables and limits":          surroundings,
		"unknown names are errors, aliases are resolved": names,
		"apply leaves alone what runs":                   applyAgain,
		"restart gives a new process":                    restart,
		"removes what is stopped only":                   remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(NewFixture(t, construct))
		})
	}
}

// NewFixture makes a fixture with a folder of its own.
func NewFixture(t *testing.T, construct Constructor) *Fixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "mk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &Fixture{t: t, C: construct(t, dir), Dir: dir}
}

// Define makes the definition of a service that behaves as b.
func (f *Fixture) Define(name string, b Behavior) service.Definition {
	f.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	raw, err := json.Marshal(b)
	if err != nil {
		f.t.Fatal(err)
	}
	return service.Definition{
		Name: name, Path: exe, Argv: []string{name}, Env: []string{behavior + "=" + string(raw)},
		Ready: service.Ready{Unix: b.Listen}, StopTimeout: 20 * time.Second,
	}
}

// Path is a path in the fixture's folder.
func (f *Fixture) Path(name string) string { return filepath.Join(f.Dir, name) }

func (f *Fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	f.t.Cleanup(cancel)
	return ctx
}

// Apply applies or fails the test.
func (f *Fixture) Apply(defs ...service.Definition) {
	f.t.Helper()
	if err := f.C.Apply(f.ctx(), defs); err != nil {
		f.t.Fatalf("apply: %v", err)
	}
}

// Start starts or fails the test.
func (f *Fixture) Start(names ...string) {
	f.t.Helper()
	if err := f.C.Start(f.ctx(), names...); err != nil {
		f.t.Fatalf("start: %v", err)
	}
}

// Stop stops or fails the test.
func (f *Fixture) Stop(names ...string) {
	f.t.Helper()
	if err := f.C.Stop(f.ctx(), names...); err != nil {
		f.t.Fatalf("stop: %v", err)
	}
}

// Status tells of one service.
func (f *Fixture) Status(name string) service.Status {
	f.t.Helper()
	all, err := f.C.Status(f.ctx())
	if err != nil {
		f.t.Fatalf("status: %v", err)
	}
	for _, st := range all {
		if st.Name == name {
			return st
		}
	}
	f.t.Fatalf("no status of %s in %+v", name, all)
	return service.Status{}
}

// WaitFor waits until the service is as ok says.
func (f *Fixture) WaitFor(name string, ok func(service.Status) bool) service.Status {
	f.t.Helper()
	var st service.Status
	Eventually(f.t, func() bool { st = f.Status(name); return ok(st) }, func() string { return "last: " + describe(st) })
	return st
}

func describe(st service.Status) string {
	raw, _ := json.Marshal(st)
	return string(raw)
}

// Eventually polls until ok holds.
func Eventually(t *testing.T, ok func() bool, explain func() string) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("did not happen within %s; %s", patience, explain())
		}
	}
}

// Alive reports whether the process runs; a zombie does not.
func Alive(pid int) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	rest := string(raw[strings.LastIndexByte(string(raw), ')')+1:])
	return !strings.HasPrefix(strings.TrimSpace(rest), "Z") && syscall.Kill(pid, 0) == nil
}
