package logfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEntry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	at := func(text string) time.Time {
		t.Helper()
		out, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	r := NewReader("x", now)
	for _, c := range []struct {
		line  string
		level Level
		time  time.Time
	}{
		{"before any time", Info, time.Time{}},
		{"I0101 01:00:00.500000 1 server.go:1] started", Info, at("2026-01-01T01:00:00.5Z")},
		{"W1231 23:00:00.000000 1 server.go:1] of last year", Warning, at("2025-12-31T23:00:00Z")},
		{"E0101 01:00:01.000000 1 server.go:1] failed", Error, at("2026-01-01T01:00:01Z")},
		{"\tmore of it", Error, at("2026-01-01T01:00:01Z")},
		{"F0101 01:00:02.000000 1 server.go:1] gone", Error, at("2026-01-01T01:00:02Z")},
		{`time="2026-01-01T01:00:03.123456789Z" level=info msg=a`, Info, at("2026-01-01T01:00:03.123456789Z")},
		{`time="2026-01-01T01:00:03Z" level=warning msg=a`, Warning, at("2026-01-01T01:00:03Z")},
		{`time=2026-01-01T01:00:03.000+01:00 level=ERROR msg=a`, Error, at("2026-01-01T00:00:03Z")},
		{`{"level":"info","ts":"2026-01-01T01:00:04.000001Z","msg":"a"}`, Info, at("2026-01-01T01:00:04.000001Z")},
		{`{"level":"warn","ts":"2026-01-01T02:00:04.000+0100","msg":"a"}`, Warning, at("2026-01-01T01:00:04Z")},
		{`{"level":"fatal","ts":1767229205.5,"msg":"a"}`, Error, at("2026-01-01T01:00:05.5Z")},
		{"2026-01-01T01:00:06.000Z [WARN]  agent: a", Warning, at("2026-01-01T01:00:06Z")},
		{"2026-01-01T01:00:06Z [ERROR] agent: a", Error, at("2026-01-01T01:00:06Z")},
		{"2026/01/01 01:00:07 a", Info, at("2026-01-01T01:00:07Z")},
		{"panic: assignment to entry in nil map", Error, at("2026-01-01T01:00:07Z")},
		{"goroutine 1 [running]:", Error, at("2026-01-01T01:00:07Z")},
		{"I0101 01:00:08.000000 1 server.go:1] again", Info, at("2026-01-01T01:00:08Z")},
		{"Everything is fine", Info, at("2026-01-01T01:00:08Z")},
		{"E", Info, at("2026-01-01T01:00:08Z")},
		{"", Info, at("2026-01-01T01:00:08Z")},
		{"I9999 99:99:99.000000 1 x] no time", Info, at("2026-01-01T01:00:08Z")},
	} {
		if e := r.Entry(c.line); e.Level != c.level || !e.Time.Equal(c.time) || e.Text != c.line || e.Service != "x" {
			t.Errorf("%q: %s at %s, want %s at %s", c.line, e.Level, e.Time, c.level, c.time)
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add("I0101 01:00:00.500000 1 server.go:1] started")
	f.Add(`{"level":"fatal","ts":1767229205.5,"msg":"a"}`)
	f.Fuzz(func(t *testing.T, line string) {
		r := NewReader("x", time.Unix(1767229205, 0))
		if e := r.Entry(line); e.Text != line || e.Level < Info || e.Level > Error {
			t.Errorf("%q: %+v", line, e)
		}
	})
}

// lines are numbered lines of one log, a second apart.
func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "I0101 %02d:%02d:%02d.000000 1 x] line %d %s\n", i/3600, i/60%60, i%60, i, strings.Repeat("x", 90))
	}
	return b.String()
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "a.log")
	put(t, path+".2", lines(0, 10))
	put(t, path+".1", lines(10, 20))
	put(t, path, lines(20, 30))
	var got []string
	for e, err := range Since(path, NewReader("a", now), now.Add(-12*time.Hour+5*time.Second)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.Fields(e.Text)[5])
	}
	if text := strings.Join(got, " "); text != "5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29" {
		t.Errorf("got %s", text)
	}
	for _, err := range Since(path+"x", NewReader("a", now), time.Time{}) {
		t.Errorf("a log that is not there: %v", err)
	}
	last, err := Last(path, NewReader("a", now), 3, func(e Entry) bool { return !strings.Contains(e.Text, "line 28 ") })
	if err != nil || len(last) != 3 || !strings.Contains(last[0].Text, "line 26 ") {
		t.Errorf("%v: %v", err, last)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a.log"), lines(0, 3)+lines(6, 8))
	put(t, filepath.Join(dir, "b.log"), lines(3, 6)+lines(8, 9))
	var got []string
	for e, err := range Merge(Since(filepath.Join(dir, "a.log"), NewReader("a", now), time.Time{}), Since(filepath.Join(dir, "b.log"), NewReader("b", now), time.Time{})) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Service+strings.Fields(e.Text)[5])
	}
	if text := strings.Join(got, " "); text != "a0 a1 a2 b3 b4 b5 a6 a7 b8" {
		t.Errorf("got %s", text)
	}
}

// What a log is rotated by, with and without a file system that cuts blocks
// off, and with lines before, between and behind.
func TestFollowAcrossRotation(t *testing.T) {
	t.Parallel()
	for name, rotateIt := range map[string]func(*testing.T, string){
		"as it is here": func(t *testing.T, path string) {
			t.Helper()
			if err := rotate(path, 3); err != nil {
				t.Fatal(err)
			}
		},
		"blocks": func(t *testing.T, path string) {
			t.Helper()
			copyOf(t, path)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// The kernel cuts blocks off in one step, and so does a rename.
			put(t, path+".cut", string(data[len(data)/block*block:]))
			if err := os.Rename(path+".cut", path); err != nil {
				t.Fatal(err)
			}
		},
		"whole": func(t *testing.T, path string) {
			t.Helper()
			copyOf(t, path)
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "a.log")
			put(t, path, lines(0, 100))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			seen := make(chan string, 1000)
			ended := make(chan error, 1)
			go func() {
				ended <- Follow(ctx, dir, map[string]*Reader{path: NewReader("a", time.Now())}, func(e Entry) { seen <- e.Text })
			}()
			next := 100
			appendTo(t, path, lines(next, next+1))
			next = expectFirst(t, ctx, seen, path, next)
			for range 5 {
				appendTo(t, path, lines(next, next+50))
				rotateIt(t, path)
				appendTo(t, path, lines(next+50, next+60))
				expect(t, ctx, seen, next, next+60)
				next += 60
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func copyOf(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+".1", data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteString(text); errors.Join(err, f.Close()) != nil {
		t.Fatal(err)
	}
}

// expectFirst writes line after line until one is seen: the follower stands.
// The answer is the number after the last one written and seen.
func expectFirst(t *testing.T, ctx context.Context, seen <-chan string, path string, next int) int {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case line := <-seen:
			var n int
			if _, err := fmt.Sscanf(strings.Fields(line)[5], "%d", &n); err != nil {
				t.Fatal(err)
			}
			expect(t, ctx, seen, n+1, next+1)
			return next + 1
		case <-tick.C:
			next++
			appendTo(t, path, lines(next, next+1))
		case <-ctx.Done():
			t.Fatal("nothing was followed")
		}
	}
}

func expect(t *testing.T, ctx context.Context, seen <-chan string, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		select {
		case line := <-seen:
			if !strings.Contains(line, fmt.Sprintf("] line %d x", n)) {
				t.Fatalf("line %d is %q", n, line)
			}
		case <-ctx.Done():
			t.Fatalf("line %d was not seen", n)
		}
	}
}
