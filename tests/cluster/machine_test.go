//go:build cluster

package cluster

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	tests "mk8s.io/mk/tests/machine"
)

// machine is a machine of tests/machine for one test.
type machine struct {
	*tests.Machine
	t *testing.T
}

// newMachine makes a machine. Without a route it reaches nothing but itself.
func newMachine(t *testing.T, number int, route bool) *machine {
	t.Helper()
	out := inOut(t, "")
	m, err := tests.New(t.Context(), out, passable(t), number, route)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	own := &machine{Machine: m, t: t}
	t.Cleanup(own.remove)
	return own
}

// passable is a folder through which plugins, as users of their own, may pass.
func passable(t *testing.T) string {
	t.Helper()
	dir, err := tests.Folder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// remove takes the node away, whatever the test left it in.
func (m *machine) remove() {
	if m.t.Failed() {
		m.t.Log(m.Logs())
	}
	if !m.Started() {
		return
	}
	if out, err := m.Try(context.Background(), 3*time.Minute, "mk", "reset", "--all", "--yes"); err != nil {
		m.t.Logf("mk reset: %v\n%s", err, out)
	}
}

// host runs a command outside the machine.
func (m *machine) host(name string, args ...string) {
	m.t.Helper()
	if err := tests.Host(m.t.Context(), name, args...); err != nil {
		m.t.Fatal(err)
	}
}

// try runs a command on the machine and answers its output.
func (m *machine) try(timeout time.Duration, name string, args ...string) (string, error) {
	return m.Try(m.t.Context(), timeout, name, args...)
}

// run runs a command on the machine that must succeed.
func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.try(5*time.Minute, name, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// kubectl runs mk kubectl.
func (m *machine) kubectl(args ...string) string {
	m.t.Helper()
	return m.run("mk", append([]string{"kubectl"}, args...)...)
}

// apply applies a manifest.
func (m *machine) apply(manifest string) {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.kubectl("apply", "-f", file)
}

// eventually waits until f succeeds.
func (m *machine) eventually(timeout time.Duration, f func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), timeout)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			m.t.Fatalf("not within %s: %v", timeout, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
