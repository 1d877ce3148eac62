package logfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPickError(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ log, want string }{
		{"", ""},
		{"one\ntwo", "two"},
		{"I0101 10:00:00.1 1 x] fine\nE0101 10:00:01.1 1 x] broken\nI0101 10:00:02.1 1 x] bye", "E0101 10:00:01.1 1 x] broken"},
		{"time=x level=fatal msg=no\nlevel=info msg=yes", "time=x level=fatal msg=no"},
		{`{"level":"error","msg":"etcd"}` + "\nbye", `{"level":"error","msg":"etcd"}`},
		{"panic: nil map\n\ngoroutine 1 [running]:\nmain.main()", "panic: nil map"},
		{"Error: unknown flag\nUsage:", "Error: unknown flag"},
		{"a\x1b[31mred\x00\tx", "a[31mred x"},
	} {
		if got := PickError(splitLines([]byte(test.log), tailLines)); got != test.want {
			t.Errorf("%q: %q, want %q", test.log, got, test.want)
		}
	}
}

func TestLastErrorOfThisRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.log")
	if got := LastError(path, 0); got != "" {
		t.Fatalf("no log: %q", got)
	}
	write(t, path, "panic: of yesterday\n")
	from := Size(path)
	write(t, path, "listening\n")
	if got := LastError(path, from); got != "listening" {
		t.Errorf("%q", got)
	}
	if got := LastError(path, 1<<20); got != "panic: of yesterday" {
		t.Errorf("after a rotation: %q", got)
	}
	from = Size(path)
	write(t, path, "flag provided but not defined: -nonsense\nUsage:\n"+strings.Repeat("\n  --a-flag\n    Does something.\n", 80))
	if got := LastError(path, from); got != "flag provided but not defined: -nonsense" {
		t.Errorf("before a long help: %q", got)
	}
	write(t, path, "listening\n"+strings.Repeat("at work\n", tailLines)+"panic: now\n")
	if got := LastError(path, from); got != "panic: now" {
		t.Errorf("after a long help: %q", got)
	}
}

// A writer that keeps its file open loses no line that was there, and goes on
// in the fresh file.
func TestRotate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := Path(dir, "x")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	limits := Limits{Size: 10_000, Keep: 2}
	n := 0
	for range 4 {
		for range 300 {
			fmt.Fprintf(f, "line %d of the log, with some text to fill it\n", n)
			n++
		}
		if err := RotateAll(dir, limits); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintln(f, "last")
	entries, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(entries) != 3 {
		t.Fatalf("files: %v %v", entries, err)
	}
	newest, err := os.ReadFile(path + ".1")
	if err != nil || !bytes.Contains(newest, fmt.Appendf(nil, "line %d of", n-1)) {
		t.Errorf("the newest old log lacks the last line: %v", err)
	}
	now, err := os.ReadFile(path)
	if err != nil || !bytes.HasSuffix(now, []byte("last\n")) || len(now) > 4096+5 {
		t.Errorf("the log has %d bytes, %v", len(now), err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func FuzzPickError(f *testing.F) {
	f.Add([]byte("E0101 10:00:00.1 1 x] y\n\x00\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := PickError(splitLines(b, tailLines))
		if len(got) > maxLine+len("…") || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x1b") {
			t.Fatalf("%q", got)
		}
	})
}
