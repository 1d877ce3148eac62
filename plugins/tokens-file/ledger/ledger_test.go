package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mk8s.io/mk/sdk/state"
	"mk8s.io/mk/sdk/tokens"
)

func open(t testing.TB, dir string) *Ledger {
	t.Helper()
	d, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := Open(d)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func put(t testing.TB, l *Ledger, r *Record) {
	t.Helper()
	if err := l.Change(t.Context(), time.Now(), func(tx *Tx) error { return tx.Put(r) }); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB, l *Ledger, token string) (r *Record) {
	t.Helper()
	err := l.Change(t.Context(), time.Now(), func(tx *Tx) (err error) {
		r, err = tx.Find(HashOf(token).ID())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func record(token string) *Record {
	return &Record{Hash: HashOf(token), Purpose: tokens.Join, Created: time.Now().UTC(), UsesLeft: 1}
}

func TestTornAtEveryByte(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cluster-tokens.txt")
	l := open(t, dir)
	put(t, l, record("first"))
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second := record("first")
	second.UsesLeft = 7
	put(t, l, second)
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(before); cut < len(after)-1; cut++ {
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, "cluster-tokens.txt"), after[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, torn)
		if r := find(t, l, "first"); r == nil || r.UsesLeft != 1 {
			t.Fatalf("cut at %d: %+v", cut, r)
		}
		put(t, l, record("third"))
		fresh := open(t, torn)
		if find(t, fresh, "first") == nil || find(t, fresh, "third") == nil {
			t.Fatalf("cut at %d: a token is lost", cut)
		}
		if all, wrong, err := fresh.All(time.Now()); err != nil || len(all) != 2 || len(wrong) > 0 {
			t.Fatalf("cut at %d: %d tokens, wrong: %v, %v", cut, len(all), wrong, err)
		}
	}
}

func TestTwoProcessesSeeEachOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	for n := range 2000 { // more than enough to compact
		r := record("one")
		r.UsesLeft = uint32(n)
		l := a
		if n%2 == 1 {
			l = b
		}
		put(t, l, r)
		if got := find(t, a, "one"); n%100 == 0 && (got == nil || got.UsesLeft != uint32(n)) {
			t.Fatalf("%d: %+v", n, got)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "cluster-tokens.txt"))
	if err != nil || info.Size() > 100<<10 {
		t.Fatalf("the file was not compacted: %v %v", info.Size(), err)
	}
}

func TestPeopleEdit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cluster-tokens.txt")
	l := open(t, dir)
	for n := range 10 {
		put(t, l, record(fmt.Sprint("token-", n)))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	// In place: the line of token-3 goes, a plain one comes, so that the file grows.
	edited := bytes.Join(append(lines[:3:3], lines[4:]...), nil)
	for range 40 {
		edited = append(edited, "0123456789abcdef\n"...)
	}
	if err := os.WriteFile(path, edited, 0o600); err != nil {
		t.Fatal(err)
	}
	if find(t, l, "token-3") != nil {
		t.Error("a token whose line was removed is still good")
	}
	if find(t, l, "token-4") == nil || find(t, l, "0123456789abcdef") == nil {
		t.Error("a token is lost")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if find(t, l, "token-4") != nil {
		t.Error("a token survived its file")
	}
	put(t, l, record("token-4"))
}

func TestALastLineWithoutNewline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cluster-tokens.txt")
	if err := os.WriteFile(path, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir)
	if find(t, l, "0123456789abcdef") != nil {
		t.Error("a line was taken while it may be half written")
	}
	old := time.Now().Add(-time.Minute)
	if err := errors.Join(os.WriteFile(path, []byte("0123456789abcdef"), 0o600), os.Chtimes(path, old, old)); err != nil {
		t.Fatal(err)
	}
	if find(t, l, "0123456789abcdef") == nil {
		t.Error("a line without newline is never taken")
	}
}

func TestCompactionForgetsTheLongGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	gone, recent := record("gone"), record("recent")
	gone.Ended, recent.Ended = time.Now().Add(-Remembered-time.Hour), time.Now()
	put(t, l, gone)
	put(t, l, recent)
	if err := os.WriteFile(filepath.Join(dir, "extra"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		recent.UsesLeft = uint32(n)
		put(t, l, recent)
	}
	if find(t, l, "gone") != nil || find(t, l, "recent") == nil {
		t.Error("compaction forgets the wrong tokens")
	}
}

// TestWhoMayRead: nobody else, or the group that the folder hands on.
func TestWhoMayRead(t *testing.T) {
	t.Parallel()
	for folder, want := range map[os.FileMode]os.FileMode{0o700: 0o600, os.ModeSetgid | 0o710: 0o640} {
		dir := t.TempDir()
		if err := os.Chmod(dir, folder); err != nil {
			t.Fatal(err)
		}
		put(t, open(t, dir), record("token"))
		info, err := os.Stat(filepath.Join(dir, "cluster-tokens.txt"))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("in a folder of %v: %v, %v; want %v", folder, info.Mode(), err, want)
		}
	}
}

func FuzzLines(f *testing.F) {
	good, err := record("token").encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(good, '\n'))
	f.Add([]byte("0123456789abcdef|17\n# x\nsha256:\n\x00"))
	f.Add([]byte("host:1 0123456789abcdef"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ReadLine(string(b), tokens.Callback); err == nil {
			if line, err := r.Line(); err != nil || len(line) == 0 {
				t.Fatalf("%q was read and cannot be written: %v", b, err)
			}
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "callback-tokens.txt")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, dir)
		put(t, l, record("mine"))
		if find(t, l, "mine") == nil {
			t.Fatal("lost")
		}
		all, _, err := l.All(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			line, err := r.encode()
			if again, ok := decode(line); err != nil || !ok || again.Hash != r.Hash {
				t.Fatalf("%q does not come back: %v", line, err)
			}
		}
	})
}
