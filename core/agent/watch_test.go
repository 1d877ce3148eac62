package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestWatchWakesWhenCertificatesSwitch: a file beside them wakes nobody.
func TestWatchWakesWhenCertificatesSwitch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := &watch{}
	defer w.close()
	link := func(to string) {
		t.Helper()
		temp := filepath.Join(dir, "new")
		if err := os.Symlink(to, temp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, filepath.Join(dir, "certs")); err != nil {
			t.Fatal(err)
		}
	}
	link("var/certs/1")
	if err := w.look(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !w.sleep(t.Context(), 20*time.Millisecond, sleep) {
		t.Error("a sleep that nothing ended is not one")
	}
	link("var/certs/2")
	if !w.sleep(t.Context(), time.Hour, sleep) {
		t.Error("it does not go on")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if w.sleep(ctx, time.Hour, sleep) {
		t.Error("it goes on after its end")
	}
}
