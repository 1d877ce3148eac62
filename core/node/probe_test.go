package node

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pipe that nobody writes to keeps its reader waiting like a disk that is gone.
func TestProbeNamesWhatHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"node.json", "credentials/client.config"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := Probe(t.Context(), dir, time.Minute); len(got) > 0 {
		t.Errorf("silent: %v", got)
	}
	for _, name := range []string{"certs/server.crt", "plugins/lock.json"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := Probe(t.Context(), dir, 5*time.Second)
	slices.Sort(got)
	if strings.Join(got, " ") != "certs plugins" {
		t.Errorf("silent: %v", got)
	}
}
