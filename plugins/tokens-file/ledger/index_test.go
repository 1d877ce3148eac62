package ledger

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// many writes a file of n tokens, token-0 and on.
func many(t testing.TB, n int) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "cluster-tokens.txt")
	var all bytes.Buffer
	for i := range n {
		r := record(fmt.Sprint("token-", i))
		r.Created = time.Unix(1_800_000_000, 0).UTC() // the same bytes each time
		line, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(line, '\n'))
	}
	if err := os.WriteFile(path, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// wantAll looks for n tokens in a process of its own, and for one that is not
// there.
func wantAll(t *testing.T, dir string, n int, without ...int) {
	t.Helper()
	l := open(t, dir)
	err := l.Change(t.Context(), time.Now(), func(tx *Tx) error {
		for i := range n + 1 {
			r, err := tx.Find(HashOf(fmt.Sprint("token-", i)).ID())
			if err != nil {
				return err
			}
			if (r != nil) != (i < n && !slices.Contains(without, i)) {
				t.Fatalf("token-%d: %+v", i, r)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// covered is what a new process need not read, and what it keeps in memory.
func covered(t *testing.T, dir string) (covers int64, kept int) {
	t.Helper()
	l := open(t, dir)
	find(t, l, "token-0")
	f := l.files[1]
	if f.base == nil {
		return 0, len(f.index)
	}
	return f.base.Covers, len(f.index)
}

const enough = 5000 // tokens for an index

func TestANewProcessReadsTheIndex(t *testing.T) {
	t.Parallel()
	dir, path := many(t, enough)
	wantAll(t, dir, enough)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if covers, kept := covered(t, dir); covers != info.Size() || kept != 0 {
		t.Fatalf("of %d bytes %d are covered, %d tokens were read", info.Size(), covers, kept)
	}
	// What is appended overtakes what the index says, here and in others.
	l, used := open(t, dir), record("token-7")
	used.UsesLeft = 9
	put(t, l, used)
	put(t, l, record("new"))
	for _, l := range []*Ledger{l, open(t, dir)} {
		if r := find(t, l, "token-7"); r == nil || r.UsesLeft != 9 || find(t, l, "new") == nil {
			t.Fatalf("%+v", r)
		}
	}
	if _, kept := covered(t, dir); kept != 2 {
		t.Errorf("%d tokens were read behind the index, want 2", kept)
	}
	wantAll(t, dir, enough)
}

// A second index holds what the first one did, and what came since.
func TestTheIndexGrows(t *testing.T) {
	t.Parallel()
	dir, path := many(t, enough)
	wantAll(t, dir, enough)
	before, _ := covered(t, dir)
	_, other := many(t, 2*enough)
	more, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(more[before:]); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	wantAll(t, dir, 2*enough)
	if after, kept := covered(t, dir); after != int64(len(more)) || kept != 0 {
		t.Fatalf("of %d bytes %d are covered, %d tokens were read", len(more), after, kept)
	}
	wantAll(t, dir, 2*enough)
}

// Whatever the index holds, tokens are found as if it were not there.
func TestADamagedIndexIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"empty": func([]byte) []byte { return nil },
		"short": func(b []byte) []byte { return b[:len(b)-1] },
		"long":  func(b []byte) []byte { return append(b, 0) },
		"head":  func(b []byte) []byte { b[20]++; return b },
		"magic": func(b []byte) []byte { b[0]++; return b },
		"places": func(b []byte) []byte { // each points elsewhere: the IDs stay
			for i := 48; i < len(b); i += 20 {
				b[i+9]++
			}
			return b
		},
		"sizes": func(b []byte) []byte {
			for i := 48; i < len(b); i += 20 {
				b[i+19] = 0x7f
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, path := many(t, enough)
			wantAll(t, dir, enough)
			b, err := os.ReadFile(indexPath(path))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(indexPath(path), damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			wantAll(t, dir, enough)
		})
	}
}

func TestPeopleEditBesideAnIndex(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func([][]byte) [][]byte{
		"removed":         func(l [][]byte) [][]byte { return slices.Delete(l, 5, 6) },
		"spoilt in place": func(l [][]byte) [][]byte { l[5][70] ^= 1; return l },
		"moved to the end": func(l [][]byte) [][]byte {
			l[5][70] ^= 1
			return append(l[:5:5], append(l[6:], l[5])...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, path := many(t, enough)
			wantAll(t, dir, enough)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// In place, so that the file is the one that the index is of.
			if err := os.WriteFile(path, bytes.Join(edit(bytes.SplitAfter(b, []byte("\n"))), nil), 0o600); err != nil {
				t.Fatal(err)
			}
			wantAll(t, dir, enough, 5)
		})
	}
}

// BenchmarkClaim changes one token among many, in turns: in a process that has
// seen the file, and in new ones. It reports medians, in microseconds, and how
// much longer a new process takes among 100,000 than among 10.
func BenchmarkClaim(b *testing.B) {
	sizes := []int{10, 10_000, 100_000}
	took := map[string][]time.Duration{}
	var dirs []string
	for _, n := range sizes {
		dir, _ := many(b, n)
		claim(b, open(b, dir)) // it writes the index
		dirs = append(dirs, dir)
	}
	for b.Loop() {
		for i, n := range sizes {
			l := open(b, dirs[i])
			for _, how := range []string{"cold", "warm"} {
				begun := time.Now()
				claim(b, l)
				key := fmt.Sprintf("%s-%d", how, n)
				took[key] = append(took[key], time.Since(begun))
			}
		}
	}
	mid := func(key string) float64 {
		slices.Sort(took[key])
		return float64(took[key][len(took[key])/2].Microseconds())
	}
	for key := range took {
		b.ReportMetric(mid(key), key+"-us")
	}
	b.ReportMetric(mid("cold-100000")/mid("cold-10"), "ratio")
}

func claim(b *testing.B, l *Ledger) {
	if find(b, l, "token-7") == nil {
		b.Fatal("lost")
	}
	put(b, l, record("token-7"))
}
