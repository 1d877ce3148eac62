package lock

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const holdEnv = "MK_LOCK_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		hold(dir)
	}
	os.Exit(m.Run())
}

// hold is the process that holds a lock, with a child of its own, until both
// are killed.
func hold(dir string) {
	_, err := Acquire(context.TODO(), dir, Operation, Owner{PID: os.Getpid(), User: "root", Verb: "join", Since: time.Now()}, nil)
	if err != nil {
		os.Exit(1)
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(child.Process.Pid); err != nil {
		os.Exit(1)
	}
	select {}
}

func me(verb string) Owner { return Owner{PID: 4121, User: "root", Verb: verb, Since: time.Now()} }

func take(t *testing.T, dir string, kind Kind) *Lock {
	t.Helper()
	l, err := Acquire(t.Context(), dir, kind, me("start"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestADeadHoldersLockIsFreeThoughItsChildLives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holdEnv+"="+dir)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if err := json.NewDecoder(out).Decode(&child); err != nil {
		t.Fatal(err)
	}
	if o, held := Held(dir, Operation); !held || o.PID != holder.Process.Pid || o.Verb != "join" {
		t.Errorf("Held = %+v, %v", o, held)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	if o, held := Held(dir, Operation); held {
		t.Errorf("held by %+v, which is dead", o)
	}
	l := take(t, dir, Operation)
	sleeper, err := os.FindProcess(child)
	if err == nil {
		err = sleeper.Kill()
	}
	if err := errors.Join(err, l.Release()); err != nil {
		t.Error(err)
	}
}

func TestWaitingIsSaidOnceAfterASecond(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first := take(t, dir, Apply)
		var calls atomic.Int32
		begun, done := time.Now(), make(chan error)
		go func() {
			second, err := Acquire(t.Context(), dir, Apply, me("restart"), func(o Owner) {
				calls.Add(1)
				if waited := time.Since(begun); waited < time.Second || waited > 1200*time.Millisecond || o.Verb != "start" {
					t.Errorf("told after %v of %+v", waited, o)
				}
			})
			if err == nil {
				err = second.Release()
			}
			done <- err
		}()
		<-time.After(5 * time.Second)
		if err := first.Release(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if calls.Load() != 1 {
			t.Errorf("told %d times", calls.Load())
		}
	})
}

func TestADeadlineNamesTheHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, err := Acquire(t.Context(), dir, Operation, me("join"), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		_, err = Acquire(ctx, dir, Operation, me("start"), nil)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "waiting for `mk join` (pid 4121, root, 12 s)") {
			t.Errorf("error %v", err)
		}
		held, ok := errors.AsType[*HeldError](err)
		if !ok || held.Holder.Verb != "join" {
			t.Errorf("error %#v", err)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		// Free: taken even by who has no time left.
		l, err = Acquire(ctx, dir, Operation, me("start"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.Release(), l.Release()); err != nil {
			t.Error(err)
		}
	})
}

func TestTheTwoLocksAreApart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	op, apply := take(t, dir, Operation), take(t, dir, Apply)
	if err := op.Release(); err != nil {
		t.Error(err)
	}
	if _, held := Held(dir, Operation); held {
		t.Error("operation is held after its release")
	}
	if _, held := Held(dir, Apply); !held {
		t.Error("apply is not held")
	}
	if err := apply.Release(); err != nil {
		t.Error(err)
	}
	if _, err := Acquire(t.Context(), dir, "../x", Owner{}, nil); err == nil {
		t.Error("a path is taken for a lock")
	}
	if _, held := Held(filepath.Join(dir, "none"), Apply); held {
		t.Error("a lock without a folder is held")
	}
}

func TestALockOnARemovedFileKeepsNobodyOutAndIsNotTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := take(t, dir, Apply)
	if err := os.Remove(filepath.Join(dir, "apply")); err != nil {
		t.Fatal(err)
	}
	second := take(t, dir, Apply)
	if _, held := Held(dir, Apply); !held {
		t.Error("the lock that the next process finds is not held")
	}
	if err := errors.Join(first.Release(), second.Release()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "apply")); err != nil {
		t.Errorf("the release removed the file: %v", err)
	}
}

func TestOnlyRootAndTheFoldersGroupCanHoldALock(t *testing.T) {
	t.Parallel()
	for gid, mode := range map[int]os.FileMode{0: 0o600, 61999: 0o640} {
		dir := t.TempDir()
		if err := os.Chown(dir, -1, gid); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "apply")
		if err := os.WriteFile(name, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := take(t, dir, Apply).Release(); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("group %d: %v, %v", gid, info.Mode(), err)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "apply")); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), dir, Apply, Owner{}, nil); err == nil {
		t.Error("a link is followed")
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for want, o := range map[string]Owner{
		"another mk":                         {},
		"`mk join` (pid 1, root, 12 s)":      {PID: 1, User: "root", Verb: "join", Since: now.Add(-12 * time.Second)},
		"`mk join` (pid 1, root, 5 min)":     {PID: 1, User: "root", Verb: "join", Since: now.Add(-5 * time.Minute)},
		"`mk join` (pid 1, root, 30 h)":      {PID: 1, User: "root", Verb: "join", Since: now.Add(-30 * time.Hour)},
		"`mk` (pid 7)":                       {PID: 7, Since: now.Add(time.Hour)},
		"`mk plugin use` (pid 2, lin, 90 s)": {PID: 2, User: "lin", Verb: "plugin use", Since: now.Add(-90 * time.Second)},
	} {
		if got := o.Describe(now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzOwner(f *testing.F) {
	f.Add([]byte(`{"pid":1,"user":"\u001b[2J","verb":"join","since":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		text := parseOwner(data).Describe(time.Unix(0, 0))
		if len(text) > 300 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q", text)
		}
	})
}
