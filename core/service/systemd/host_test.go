//go:build systemd

package systemd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/servicetest"
)

// These tests run inside a machine whose process 1 is systemd; without one
// they fail. tests/systemd makes, boots and reboots it.

func construct(t *testing.T, dir string) service.Controller {
	t.Helper()
	id := strings.ToLower(filepath.Base(dir))
	c, err := New(Options{ID: id, LogDir: filepath.Join(dir, "log"), StateFile: filepath.Join(dir, "state", "services.json")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
		all, err := c.Status(ctx)
		if err != nil {
			t.Errorf("clean up: %v", err)
		}
		for _, st := range all {
			if err := c.Remove(ctx, st.Name); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
	})
	return c
}

func TestSuite(t *testing.T) {
	if !Detect() {
		t.Fatal("systemd does not run here")
	}
	servicetest.Run(t, construct)
}

// rebootDir outlives a reboot.
const rebootDir = "/var/lib/mk-reboot"

func rebootFixture(t *testing.T) (*servicetest.Fixture, *Controller) {
	t.Helper()
	var c *Controller
	f := servicetest.NewFixture(t, func(t *testing.T, _ string) service.Controller {
		var err error
		c, err = New(Options{LogDir: filepath.Join(rebootDir, "log"), StateFile: filepath.Join(rebootDir, "services.json")})
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
	f.Dir = rebootDir
	return f, c
}

// TestBeforeReboot leaves one service enabled and one that was disabled.
func TestBeforeReboot(t *testing.T) {
	if err := os.RemoveAll(rebootDir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(rebootDir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, c := rebootFixture(t)
	back := f.Define("back", servicetest.Behavior{Listen: f.Path("back.sock"), Journal: f.Path("journal")})
	back.After = []string{"first"}
	f.Apply(back, f.Define("first", servicetest.Behavior{Listen: f.Path("first.sock"), Journal: f.Path("journal")}),
		f.Define("off", servicetest.Behavior{Listen: f.Path("off.sock")}))
	f.Start()
	if err := c.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Disable(t.Context(), "off"); err != nil {
		t.Fatal(err)
	}
	if !f.Status("back").Enabled || !f.Status("first").Enabled || f.Status("off").Enabled {
		t.Fatal("not enabled as asked")
	}
}

// TestAfterReboot finds the enabled ones running, and cleans up.
func TestAfterReboot(t *testing.T) {
	f, c := rebootFixture(t)
	for _, name := range []string{"first", "back"} {
		f.WaitFor(name, func(st service.Status) bool { return st.State == service.Running && st.Enabled })
	}
	if st := f.Status("off"); st.State != service.Stopped {
		t.Fatalf("the disabled one is %s", st.State)
	}
	f.Stop()
	if err := c.Remove(t.Context(), "back", "first", "off"); err != nil {
		t.Fatal(err)
	}
	if units, err := filepath.Glob("/etc/systemd/system/*/mk-*"); err != nil || len(units) != 0 {
		t.Fatalf("left behind: %v %v", units, err)
	}
}
