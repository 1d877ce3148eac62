package cli

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// status --watch says how the node is, again when that changes, and ends with
// Ctrl-C, or when --timeout is over, as it should.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	root := fullNode(t)
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "mk", "--root="+root, "status", "--watch")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("it ended without %q: %s", want, errs.String())
	}
	until("mk is stopped: a ")
	until("change 2 (datastore recover) is not finished")
	marker := filepath.Join(root, "var/lock/no-cert-reissue")
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until("mk is stopped: a ")
	until("no-cert-reissue asks ")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // the pipe is read to its end before Wait
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, errs.String())
	}
	began := time.Now()
	exit, said, _ := mk(t, root, "status", "--watch", "--timeout", "1")
	if exit != 0 || strings.Count(said, "mk is stopped: a ") != 1 || time.Since(began) > 30*time.Second {
		t.Errorf("exit %d after %s:\n%s", exit, time.Since(began), said)
	}
	if exit, _, said := mk(t, root, "status", "--watch", "-o", "json"); exit != 2 {
		t.Errorf("a watch as one document: exit %d\n%s", exit, said)
	}
}
