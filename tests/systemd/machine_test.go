//go:build systemd

package systemd

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestServicesUnderSystemd runs the tests of core/service/systemd inside a
// machine, reboots it by killing its process 1, and looks what came back.
// MK_SYSTEMD_ROOT names the machine's folder.
func TestServicesUnderSystemd(t *testing.T) {
	root := os.Getenv("MK_SYSTEMD_ROOT")
	if root == "" {
		t.Fatal("MK_SYSTEMD_ROOT does not name a folder made by make-root.sh")
	}
	const program = "/root/service.test"
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "systemd",
		"-o", filepath.Join(root, program), "mk8s.io/mk/core/service/systemd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the tests: %v\n%s", err, out)
	}
	m := boot(t, root, "")
	inside(t, m, program, "-test.v", "-test.run", "^TestSuite$", "-test.timeout", "5m")
	inside(t, m, program, "-test.v", "-test.run", "^TestBeforeReboot$", "-test.timeout", "2m")
	m.Kill()
	m = boot(t, root, "")
	inside(t, m, program, "-test.v", "-test.run", "^TestAfterReboot$", "-test.timeout", "2m")
}

func boot(t *testing.T, root, netns string) *Machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m, err := Boot(ctx, ".", root, netns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	return m
}

func inside(t *testing.T, m *Machine, argv ...string) {
	t.Helper()
	var out bytes.Buffer
	err := m.Run(t.Context(), &out, argv...)
	t.Logf("%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
}
