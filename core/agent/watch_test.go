package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mk8s.io/mk/core/timer"
)

// TestWatchWakesWhenCertificatesSwitch, and when a person edits their names, in
// whatever folder they are by then; a file beside them wakes nobody.
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
	folder := func(name string) string {
		t.Helper()
		path := filepath.Join(dir, "var/certs", name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := folder("1")
	link("var/certs/1")
	if err := w.look(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !w.sleep(t.Context(), 20*time.Millisecond, timer.Wait) {
		t.Error("a sleep that nothing ended is not one")
	}
	second := folder("2")
	link("var/certs/2")
	if !w.sleep(t.Context(), time.Hour, timer.Wait) {
		t.Error("it does not go on")
	}
	for n, write := range []func(name string) error{
		func(name string) error { return os.WriteFile(name, []byte("[ alt_names ]\n"), 0o600) },
		func(name string) error { // as an editor does
			return errors.Join(os.WriteFile(name+"~", nil, 0o600), os.Rename(name+"~", name))
		},
	} {
		if !w.sleep(t.Context(), time.Millisecond, timer.Wait) { // it follows the link
			t.Error("a sleep that nothing ended is not one")
		}
		if err := write(filepath.Join(second, template)); err != nil {
			t.Fatal(err)
		}
		if !w.sleep(t.Context(), time.Hour, timer.Wait) {
			t.Errorf("edit %d: it does not go on", n)
		}
		w.forget()
	}
	if slices.Contains(w.w.WatchList(), first) {
		t.Error("the folder of before is watched still")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if w.sleep(ctx, time.Hour, timer.Wait) {
		t.Error("it goes on after its end")
	}
}
