//go:build cluster

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stopsByMarker asks a running node to stop by a marker file, as MicroK8s'
// tools do, and wants nothing of it left.
func stopsByMarker(t *testing.T, m *machine) {
	if err := os.WriteFile(filepath.Join(m.Root, "var/lock/stopped.lock"), nil, 0o644); err != nil { //nolint:gosec // as mk writes it
		t.Fatal(err)
	}
	m.eventually(2*time.Minute, func() error {
		out, err := m.try(10*time.Second, "mk", "changes")
		if lines := strings.Split(strings.TrimSpace(out), "\n"); err != nil || !strings.Contains(lines[len(lines)-1], "stop  ") || !strings.Contains(lines[len(lines)-1], "done") {
			return fmt.Errorf("the newest change is no stop that is done: %s", lines[len(lines)-1])
		}
		return nil
	})
	nothingLeft(t, m)
}
