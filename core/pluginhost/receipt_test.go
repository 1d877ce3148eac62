package pluginhost

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// installed is a copy of this test's program that only root can change.
func installed(t *testing.T, r *rig) Spec {
	t.Helper()
	s := r.spec()
	data, err := os.ReadFile(s.Program)
	if err != nil {
		t.Fatal(err)
	}
	s.Program = filepath.Join(r.base, "plugin")
	if err := os.WriteFile(s.Program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// The file that was compared is the one that runs, and between the two nobody
// can write it, not even root.
func TestHeldBetweenCheckAndStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := installed(t, r)
	f, _, err := openProgram(s, r.receipts())
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string) error {
		w, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			_ = w.Close()
		}
		return err
	}
	if err := write(s.Program); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("it can be written between the check and the start: %v", err)
	}
	old, evil := s.Program+".old", s.Program+".new"
	if err := errors.Join(os.Rename(s.Program, old), os.WriteFile(evil, []byte("#!/bin/sh\necho evil\n"), 0o755), os.Rename(evil, s.Program)); err != nil {
		t.Fatal(err)
	}
	dir, err := runFolder(r.options.RunDir, pluginUser)
	if err != nil {
		t.Fatal(err)
	}
	p := &Plugin{Spec: s, dir: dir, gone: make(chan struct{}), log: newLogger(r.options.Log)}
	if err := r.launch(t.Context(), p, f); err != nil {
		t.Error(err)
	}
	if err := write(old); !errors.Is(err, syscall.ETXTBSY) {
		t.Errorf("it can be written while it runs: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := write(old); err != nil {
		t.Errorf("it cannot be written after it ran: %v", err)
	}
}

// A file that somebody else could change, or may be changing, is copied.
func TestWhatCannotBeHeldIsCopied(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(string) error{
		"held":                  func(string) error { return nil },
		"another's":             func(p string) error { return os.Chown(p, pluginUser, 0) },
		"writable by others":    func(p string) error { return os.Chmod(p, 0o757) },
		"writable by the group": func(p string) error { return os.Chmod(p, 0o775) },
		"open for writing": func(p string) error {
			w, err := os.OpenFile(p, os.O_WRONLY, 0)
			if err == nil {
				t.Cleanup(func() { _ = w.Close() })
			}
			return err
		},
	} {
		r := newRig(t)
		s := installed(t, r)
		if err := spoil(s.Program); err != nil {
			t.Fatal(err)
		}
		f, _, err := openProgram(s, r.receipts())
		if err != nil {
			t.Fatal(name, err)
		}
		a, errA := f.Stat()
		b, errB := os.Stat(s.Program)
		if err := errors.Join(errA, errB, f.Close()); err != nil {
			t.Fatal(err)
		}
		if same := os.SameFile(a, b); same != (name == "held") {
			t.Errorf("%s: the file itself is run: %t", name, same)
		}
	}
}

// A receipt saves the digest of a file as long as nothing of it changes.
func TestReceipts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := installed(t, r)
	known := r.receipts()
	other := "sha256:" + strings.Repeat("0", 64)
	later := time.Now().Add(time.Minute)
	compared := func(digest string) error {
		t.Helper()
		f, err := openRegular(s.Program)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return known.compare(f, digest, later)
	}
	mark := func() string {
		f, err := openRegular(s.Program)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return stamp(f, later)
	}
	if err := compared(s.Digest); err != nil || !known.has(s.Digest, mark()) {
		t.Fatal("nothing is remembered", err)
	}
	known.put(other, mark()) // a lie: what is believed is not read again
	if err := compared(other); err != nil {
		t.Fatal("a receipt saves nothing", err)
	}
	for name, spoil := range map[string]func() error{
		"content of the same size and time": func() error {
			info, err := os.Stat(s.Program)
			if err != nil {
				return err
			}
			w, err := os.OpenFile(s.Program, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = w.WriteAt([]byte{1}, 4096)
			return errors.Join(err, w.Close(), os.Chtimes(s.Program, info.ModTime(), info.ModTime()))
		},
		"another file": func() error {
			data, err := os.ReadFile(s.Program)
			return errors.Join(err, os.WriteFile(s.Program+"x", data, 0o755), os.Rename(s.Program+"x", s.Program))
		},
		"its mode":               func() error { return os.Chmod(s.Program, 0o775) },
		"receipts of others":     func() error { return os.Chown(known.dir, pluginUser, 0) },
		"receipts for others":    func() error { return os.Chmod(known.dir, 0o777) },
		"below a folder of them": func() error { return os.Chown(filepath.Dir(known.dir), pluginUser, 0) },
	} {
		known.put(other, mark())
		if err := spoil(); err != nil {
			t.Fatal(name, err)
		}
		if err := compared(other); err == nil {
			t.Errorf("%s: an old receipt is believed", name)
		}
		if err := errors.Join(os.Chown(known.dir, 0, 0), os.Chmod(known.dir, 0o700), os.Chown(filepath.Dir(known.dir), 0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	// What has changed just now may change again within a tick of the clock.
	later = time.Now()
	if err := os.Chmod(s.Program, 0o755); err != nil {
		t.Fatal(err)
	}
	if m := mark(); m != "" {
		t.Errorf("a file that has just changed is remembered: %q", m)
	}
	for _, bad := range []string{"", "sha256:x", "sha256:" + strings.Repeat("/", 64), "sha256:" + strings.Repeat("G", 64)} {
		if known.name(bad) != "" {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}
