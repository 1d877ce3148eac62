package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// asker counts how often an answer was decided anew.
type asker struct {
	dir   *Dir
	now   time.Time
	asked int
}

func (a *asker) ask(ctx context.Context, question string) (string, error) {
	return OnceUnsynced(ctx, a.dir, a.now, "op", question, func(*Locked) (string, error) {
		a.asked++
		return fmt.Sprintf("%s for the %d. time\n%s", question, a.asked, strings.Repeat("x", 1000)), nil
	})
}

// The same answer, from whichever process, and a new one when it is too old.
func TestUnsynced(t *testing.T) {
	t.Parallel()
	a := &asker{dir: open(t), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	other, err := Open(a.dir.path)
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]string{}
	for i := range 4 {
		for _, q := range []string{"a", "b"} {
			got, err := a.ask(t.Context(), q)
			if err != nil || i > 0 && got != first[q] {
				t.Fatalf("%s: %.30q, %v", q, got, err)
			}
			first[q] = got
		}
		a.dir, other = other, a.dir
	}
	if a.asked != 2 {
		t.Errorf("decided %d times", a.asked)
	}
	if got, err := OnceUnsynced(t.Context(), a.dir, a.now, "op 2", "a", func(*Locked) (string, error) { return "mine", nil }); err != nil || got != "mine" {
		t.Errorf("of another operation: %.30q, %v", got, err)
	}
	a.now = a.now.Add(Kept + time.Second)
	if got, err := a.ask(t.Context(), "a"); err != nil || got == first["a"] || a.asked != 3 {
		t.Errorf("after long: %.30q, %v", got, err)
	}
	info, err := os.Stat(a.dir.Path(jotsName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := a.dir.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ask(t.Context(), "a"); err != nil || a.asked != 4 {
		t.Errorf("after Clear: %v", err)
	}
	failure := errors.New("no")
	if _, err := OnceUnsynced(t.Context(), a.dir, a.now, "op", "fails", func(*Locked) (int, error) { return 0, failure }); !errors.Is(err, failure) {
		t.Error(err)
	}
	written, err := OnceUnsynced(t.Context(), a.dir, a.now, "op", "writes", func(l *Locked) (int, error) { return 1, l.Write("v", 1) })
	var v int
	if err == nil || a.dir.Read("v", &v) != nil || v != 0 {
		t.Errorf("written with an answer: %d, %d, %v", written, v, err)
	}
	if _, err := OnceUnsynced(t.Context(), a.dir, a.now, "", "a", func(*Locked) (int, error) { return 0, nil }); !errors.Is(err, ErrNoOperation) {
		t.Error(err)
	}
}

// A process or a machine that ends while it writes leaves a part of a line:
// that answer is given anew, and the others stay.
func TestUnsyncedCutOff(t *testing.T) {
	t.Parallel()
	a := &asker{dir: open(t), now: time.Now()}
	ask := func(q string) string {
		t.Helper()
		got, err := a.ask(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before, last := ask("a"), ask("b")
	whole, err := os.ReadFile(a.dir.Path(jotsName))
	if err != nil {
		t.Fatal(err)
	}
	// All but the end of its line.
	if err := os.Truncate(a.dir.Path(jotsName), int64(len(whole)-1)); err != nil {
		t.Fatal(err)
	}
	if ask("c"); ask("b") != last || a.asked != 3 {
		t.Errorf("without the end of its line: decided %d times", a.asked)
	}
	begins := strings.Index(string(whole), "\n") + 1
	for _, end := range []int{begins, begins + 1, begins + 33, begins + 60, len(whole) - 2} {
		for _, fill := range []string{"", "\x00\x00\x00"} {
			if err := os.WriteFile(a.dir.Path(jotsName), []byte(string(whole[:end])+fill), 0o600); err != nil {
				t.Fatal(err)
			}
			asked := a.asked
			anew := ask("b")
			if a.asked != asked+1 || ask("a") != before || ask("b") != anew || a.asked != asked+1 {
				t.Errorf("cut off at %d of %d, then %q: decided %d times", end, len(whole), fill, a.asked-asked)
			}
		}
	}
}

// The file grows no further than it may; answers of 128 KiB stay.
func TestUnsyncedIsBounded(t *testing.T) {
	t.Parallel()
	a := &asker{dir: open(t), now: time.Now()}
	for i := range 1000 {
		if _, err := a.ask(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(a.dir.Path(jotsName))
		if err != nil || info.Size() > maxJots {
			t.Fatalf("%v, %v", info, err)
		}
	}
	for i := range 100 {
		if _, err := a.ask(t.Context(), fmt.Sprint(999-i)); err != nil || a.asked != 1000 {
			t.Fatalf("of the last hundred answers, %d does not stay: %v", i, err)
		}
	}
	large := func(*Locked) (string, error) { a.asked++; return strings.Repeat("x", maxJots/2), nil }
	for range 2 {
		if got, err := OnceUnsynced(t.Context(), a.dir, a.now, "op", "large", large); err != nil || len(got) != maxJots/2 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if _, err := a.ask(t.Context(), "999"); err != nil || a.asked != 1002 {
		t.Errorf("a large one took the others away: %v", err)
	}
	// Whoever filled it: it is not read for ever.
	if err := os.WriteFile(a.dir.Path(jotsName), make([]byte, 4*maxJots), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := a.ask(t.Context(), "last"); err != nil || a.asked != 1003 {
			t.Errorf("decided %d times, %v", a.asked, err)
		}
	}
	if info, err := os.Stat(a.dir.Path(jotsName)); err != nil || info.Size() > maxJots {
		t.Errorf("%v, %v", info, err)
	}
}
