//go:build cluster

package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestInstallOffline unpacks the archive on a machine without any route,
// installs it and starts a node: it is Ready within a minute, and leaves
// nothing when it is taken away.
func TestInstallOffline(t *testing.T) {
	m := newMachine(t, 2, false)
	archives, err := filepath.Glob(filepath.Join(m.Out, "mk-*-linux-amd64.tar.gz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("one archive is needed: make dist (found %v, %v)", archives, err)
	}
	dir := passable(t)
	m.host("tar", "-C", dir, "-xzf", archives[0])
	unpacked, err := filepath.Glob(filepath.Join(dir, "mk-*"))
	if err != nil || len(unpacked) != 1 {
		t.Fatalf("the archive holds %v (%v)", unpacked, err)
	}
	prefix := filepath.Join(dir, "usr")
	mk := filepath.Join(prefix, "bin/mk")
	before := m.asNew()
	began := time.Now()
	m.run("env", "PREFIX="+prefix, filepath.Join(unpacked[0], "install"))
	m.Program = mk
	m.run("mk", "start", "--name", "offline")
	if took := time.Since(began); took > time.Minute {
		t.Errorf("installed and Ready after %s", took)
	}
	m.run("mk", "enable", "dns")
	m.run("mk", "uninstall", "--yes")
	nothingLeft(t, m)
	likeBefore(t, m, before)
	for _, gone := range []string{m.Root, mk, filepath.Join(prefix, "share/bash-completion/completions/mk")} {
		if _, err := os.Lstat(gone); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	if _, err := os.Lstat(prefix); err == nil { // which ./install made
		t.Errorf("%s is left: %q", prefix, made(t, prefix))
	}
}

// TestDamagedArchive has ./install refuse a folder in which a byte was flipped.
func TestDamagedArchive(t *testing.T) {
	m := newMachine(t, 3, false)
	archives, err := filepath.Glob(filepath.Join(m.Out, "mk-*-linux-amd64.tar.gz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("one archive is needed: make dist (found %v, %v)", archives, err)
	}
	dir := passable(t)
	m.host("tar", "-C", dir, "-xzf", archives[0])
	unpacked, _ := filepath.Glob(filepath.Join(dir, "mk-*"))
	if err := os.WriteFile(filepath.Join(unpacked[0], "images/pause.tar"), []byte("not an image"), 0o600); err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(dir, "usr")
	cmd := exec.CommandContext(t.Context(), filepath.Join(unpacked[0], "install"))
	cmd.Env = append(os.Environ(), "PREFIX="+prefix)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("install: %v\n%s", err, out)
	}
	if _, err := os.Lstat(prefix); err == nil {
		t.Errorf("%s was made", prefix)
	}
}
