package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnotherKubernetes: where one runs, it is named, and nothing is written.
func TestAnotherKubernetes(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // who may not start a node is told so first
	}
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} { // plugins' users pass through
		if err := os.Chmod(d, 0o711); err != nil { //nolint:gosec // test folders
			t.Fatal(err)
		}
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "k3s"), program, 0o755) //nolint:gosec // a program
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"start", "start --dry-run"} {
		// In a network of its own, so that only this mk sees it.
		script := dir + "/k3s 60 & mk --root=" + dir + "/root " + words + "; code=$?; kill $!; exit $code"
		cmd := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c", script)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "mk: another Kubernetes runs on this machine\nwhy   k3s of ") || !strings.Contains(string(out), "nothing was changed") {
			t.Errorf("mk %s: %v\n%s", words, err, out)
		}
		if _, err := os.Lstat(dir + "/root"); err == nil {
			t.Errorf("mk %s made a folder", words)
		}
	}
}
