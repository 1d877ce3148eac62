package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestUpdateIsAtomicAcrossHandles(t *testing.T) {
	t.Parallel()
	d := open(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			other, err := Open(d.path)
			if err != nil {
				t.Error(err)
				return
			}
			var n struct{ Count int }
			if err := other.Update(t.Context(), "count.json", &n, func() error { n.Count++; return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var n struct{ Count int }
	if err := d.Read("count.json", &n); err != nil || n.Count != 20 {
		t.Fatalf("count %d, %v", n.Count, err)
	}
	info, err := os.Stat(d.Path("count.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

func TestUpdateThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	d := open(t)
	v := map[string]int{"a": 1}
	if err := d.Update(t.Context(), "v.json", &v, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no")
	if err := d.Update(t.Context(), "v.json", &v, func() error { v["a"] = 2; return failure }); !errors.Is(err, failure) {
		t.Fatal(err)
	}
	got := map[string]int{}
	if err := d.Read("v.json", &got); err != nil || got["a"] != 1 {
		t.Fatalf("%v %v", got, err)
	}
}

func TestOnceAnswersTheSame(t *testing.T) {
	t.Parallel()
	d, now := open(t), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	asked := 0
	ask := func(at time.Time, op, question string) string {
		t.Helper()
		s, err := Once(t.Context(), d, at, op, question, func(*Locked) (string, error) {
			asked++
			return fmt.Sprint("answer ", asked), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for range 10 {
		if got := ask(now, "op", "Issue"); got != "answer 1" {
			t.Fatal(got)
		}
	}
	if got := ask(now, "op", "Reserve"); got != "answer 2" {
		t.Fatal(got)
	}
	later := now.Add(Kept + time.Hour)
	if got := ask(later, "other", "Issue"); got != "answer 3" {
		t.Fatal(got)
	}
	if got := ask(later, "op", "Issue"); got != "answer 4" {
		t.Fatalf("an answer older than %v was kept: %s", Kept, got)
	}
}

// TestAnswersAreBounded: by their age, and by their number.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	d, now := open(t), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	many := func(at time.Time, from, to int) {
		t.Helper()
		for i := range to - from {
			name := d.Path(answerName(fmt.Sprint("op ", from+i)))
			if err := errors.Join(os.WriteFile(name, []byte("{}"), 0o600), os.Chtimes(name, at, at.Add(time.Duration(from+i)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func() int {
		t.Helper()
		list, err := filepath.Glob(d.Path(answerPrefix + "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	many(now.Add(-Kept-time.Hour), 0, 5)
	many(now.Add(-time.Hour), 5, MaxAnswers+8)
	if err := d.Change(t.Context(), func(l *Locked) error { return l.Write("other", 1) }); err != nil {
		t.Fatal(err)
	}
	// Questions come until one of them looks.
	for i := 0; count() > MaxAnswers; i++ {
		if i > 100*pruneEvery {
			t.Fatalf("%d answers are kept", count())
		}
		if err := once(t, d, now, i); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range map[int]bool{0: false, 4: false, 5: false, MaxAnswers + 7: true} {
		_, err := os.Stat(d.Path(answerName(fmt.Sprint("op ", i))))
		if (err == nil) != want {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	var other int
	if err := d.Read("other", &other); err != nil || other != 1 {
		t.Error("what is no answer went:", other, err)
	}
}

func once(t *testing.T, d *Dir, now time.Time, i int) error {
	t.Helper()
	_, err := Once(t.Context(), d, now, "now", fmt.Sprint(i), func(*Locked) (int, error) { return i, nil })
	return err
}

func TestOnceDoesNotStoreErrors(t *testing.T) {
	t.Parallel()
	d, failure := open(t), errors.New("later")
	if _, err := Once(t.Context(), d, time.Now(), "op", "q", func(*Locked) (int, error) { return 0, failure }); !errors.Is(err, failure) {
		t.Fatal(err)
	}
	got, err := Once(t.Context(), d, time.Now(), "op", "q", func(*Locked) (int, error) { return 7, nil })
	if err != nil || got != 7 {
		t.Fatal(got, err)
	}
	if _, err := Once(t.Context(), d, time.Now(), "", "q", func(*Locked) (int, error) { return 1, nil }); !errors.Is(err, ErrNoOperation) {
		t.Fatal(err)
	}
}

func TestSeveralFilesAreOneChange(t *testing.T) {
	t.Parallel()
	d := open(t)
	write := func(v int) error {
		return d.Change(t.Context(), func(l *Locked) error {
			return errors.Join(l.Write("a", v), l.Write("b", v))
		})
	}
	if err := write(1); err != nil {
		t.Fatal(err)
	}
	// Killed after the commit was renamed and before b was put in place.
	if err := os.WriteFile(d.Path(commitName), []byte(`{"a":2,"b":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := d.Change(t.Context(), func(l *Locked) error {
		var a, b int
		if err := errors.Join(l.Read("a", &a), l.Read("b", &b)); err != nil || a != 2 || b != 2 {
			return fmt.Errorf("a %d, b %d: %w", a, b, err)
		}
		return errors.Join(l.Write("a", 3), errors.New("changed my mind"))
	})
	if err == nil || err.Error() != "changed my mind" {
		t.Fatal(err)
	}
	var a int
	if err := d.Read("a", &a); err != nil || a != 2 {
		t.Fatal(a, err)
	}
	if _, err := os.Stat(d.Path(commitName)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the commit stayed")
	}
}

func TestClearTwice(t *testing.T) {
	t.Parallel()
	d := open(t)
	v := 1
	if err := d.Update(t.Context(), "v", &v, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(d.Path("v")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestNamesStayInTheFolder(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, name := range []string{"", "../x", ".lock", "a/b", "A"} {
		if err := d.Read(name, new(int)); err == nil {
			t.Errorf("read %q", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"to":"op Issue","time":"2026-01-01T00:00:00Z","value":1}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := open(t)
		if err := os.WriteFile(d.Path(commitName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = d.Change(t.Context(), func(*Locked) error { return nil })
		_ = os.Remove(d.Path(commitName))
		if err := os.WriteFile(d.Path(answerName("op Issue")), b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = Once(t.Context(), d, time.Now(), "op", "Issue", func(*Locked) (int, error) { return 1, nil })
	})
}
