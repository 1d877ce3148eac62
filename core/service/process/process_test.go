package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// sleeper starts a program in a session of its own, reaped when it ends.
func sleeper(t *testing.T) ID {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := Identify(cmd.Process.Pid)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestWaitAndSignal(t *testing.T) {
	t.Parallel()
	p, err := Open(sleeper(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("wait for a living process: %v", err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestStarted(t *testing.T) {
	t.Parallel()
	before := time.Now()
	at, err := Started(sleeper(t).PID)
	if after := time.Now(); err != nil || at.Before(before.Add(-time.Second/ticks*2)) || at.After(after) {
		t.Errorf("between %s and %s it started at %s: %v", before, after, at, err)
	}
	if _, err := Started(1 << 30); !errors.Is(err, ErrGone) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestAnotherProcessIsNotTouched(t *testing.T) {
	t.Parallel()
	id := sleeper(t)
	other := id
	other.Start--
	if _, err := Open(other); !errors.Is(err, ErrGone) {
		t.Errorf("open: %v", err)
	}
	if err := SignalGroup(other, syscall.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("signal: %v", err)
	}
	if now, err := Identify(id.PID); err != nil || !now.Same(id) {
		t.Errorf("it was hit: %v", err)
	}
	if err := SignalGroup(ID{PID: 1}, syscall.SIGKILL); err == nil {
		t.Error("process 1 may be signaled")
	}
}

// A v1 hierarchy as files: what is listed is ended until nobody is left.
func TestKillCgroup(t *testing.T) {
	t.Parallel()
	dir, id := t.TempDir(), sleeper(t)
	below := filepath.Join(dir, "pod")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(below, "cgroup.procs"), []byte(strconv.Itoa(id.PID)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := KillCgroup(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Identify(id.PID); !errors.Is(err, ErrGone) {
		t.Fatalf("it lives: %v", err)
	}
	if err := KillCgroup(ctx, filepath.Join(dir, "missing")); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (a ) b) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 7 1 1")
	f.Fuzz(func(t *testing.T, s string) {
		if st, err := parseStat(s); err == nil && st.state == 0 {
			t.Fatal("no state")
		}
	})
}
