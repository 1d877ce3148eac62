package folder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func root(t *testing.T, dir string) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestDigestIsWhatTheCommentSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/b.txt", "hello", 0o640)
	write(t, dir+"/a/run", "#!/bin/sh\n", 0o755)
	write(t, dir+"/a-c", "", 0o644)
	if err := os.Mkdir(dir+"/empty", 0o755); err != nil {
		t.Fatal(err)
	}
	tree, err := Read(t.Context(), root(t, dir), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want := "sha256:" + sum("mk folder 1\n"+
		"d a\n"+
		"f - 0 "+sum("")+" a-c\n"+
		"f x 10 "+sum("#!/bin/sh\n")+" a/run\n"+
		"f - 5 "+sum("hello")+" b.txt\n"+
		"d empty\n")
	if got := tree.Digest(); got != want {
		t.Errorf("digest is %s, want %s", got, want)
	}
}

func TestCopyHasTheSameDigestAndMaskedModes(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	write(t, from+"/bin/x", "program", 0o777)
	write(t, from+"/data", "data", 0o666)
	r := root(t, to)
	tree, err := Copy(t.Context(), root(t, from), r, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if err := Seal(r, tree); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"bin/x": 0o555, "data": 0o444, "bin": 0o555, ".": 0o555} {
		info, err := os.Stat(filepath.Join(to, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", name, info.Mode().Perm(), want, err)
		}
	}
	again, err := Read(t.Context(), r, DefaultLimits())
	if err != nil || again.Digest() != tree.Digest() {
		t.Errorf("digest %s, want %s (%v)", again.Digest(), tree.Digest(), err)
	}
	parent := root(t, filepath.Dir(to))
	if err := Remove(parent, filepath.Base(to)); err != nil {
		t.Error(err)
	}
	if err := Remove(parent, filepath.Base(to)); err != nil {
		t.Errorf("removing again: %v", err)
	}
}

func TestHostileFoldersAreRefused(t *testing.T) {
	t.Parallel()
	limits := Limits{Entries: 20, Bytes: 1 << 20, Path: 100}
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string)
		want string
	}{
		"link out":      {func(t *testing.T, d string) { must(t, os.Symlink("/etc/passwd", d+"/x")) }, "symbolic link"},
		"link in":       {func(t *testing.T, d string) { must(t, os.Symlink("y", d+"/x")) }, "symbolic link"},
		"linked folder": {func(t *testing.T, d string) { must(t, os.Symlink("/etc", d+"/x")) }, "symbolic link"},
		"pipe":          {func(t *testing.T, d string) { must(t, syscall.Mkfifo(d+"/x", 0o644)) }, "pipe"},
		"setuid":        {func(t *testing.T, d string) { write(t, d+"/x", "", 0o755|os.ModeSetuid) }, "setuid"},
		"setgid":        {func(t *testing.T, d string) { write(t, d+"/x", "", 0o755|os.ModeSetgid) }, "setuid or setgid"},
		"socket":        {func(t *testing.T, d string) { socket(t, d+"/x") }, "socket"},
		"new line":      {func(t *testing.T, d string) { write(t, d+"/x\nf - 1", "", 0o644) }, "not allowed"},
		"backslash":     {func(t *testing.T, d string) { write(t, d+`/..\x`, "", 0o644) }, "not allowed"},
		"not UTF-8":     {func(t *testing.T, d string) { write(t, d+"/\xff", "", 0o644) }, "not allowed"},
		"sparse giant": {func(t *testing.T, d string) {
			write(t, d+"/x", "", 0o644)
			must(t, os.Truncate(d+"/x", 1<<40))
		}, "larger than"},
		"many large": {func(t *testing.T, d string) {
			for i := range 3 {
				write(t, fmt.Sprintf("%s/%d", d, i), strings.Repeat("x", 400<<10), 0o644)
			}
		}, "larger than"},
		"many files": {func(t *testing.T, d string) {
			for i := range 21 {
				write(t, fmt.Sprintf("%s/%d", d, i), "", 0o644)
			}
		}, "more than 20 files"},
		"many folders": {func(t *testing.T, d string) { must(t, os.MkdirAll(d+strings.Repeat("/d", 30), 0o755)) }, "more than 20 files"},
		"long path":    {func(t *testing.T, d string) { write(t, d+"/"+strings.Repeat("x", 101), "", 0o644) }, "longer than 100"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := t.TempDir()
			c.make(t, from)
			_, err := Copy(t.Context(), root(t, from), root(t, t.TempDir()), limits)
			if !errors.Is(err, ErrHostile) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("copy: got %v, want %q", err, c.want)
			}
			if _, err := Read(t.Context(), root(t, from), limits); !errors.Is(err, ErrHostile) {
				t.Errorf("read: got %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func socket(t *testing.T, p string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	here, err := os.Getwd()
	must(t, err)
	rel, err := filepath.Rel(here, p)
	must(t, err)
	if len(rel) > 100 {
		rel = p
	}
	must(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: rel}))
}

func TestTenThousandFilesAreTooMany(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 10_001 {
		f, err := os.Create(fmt.Sprintf("%s/%d", dir, i))
		must(t, err)
		f.Close()
	}
	if _, err := Read(t.Context(), root(t, dir), DefaultLimits()); !errors.Is(err, ErrHostile) {
		t.Errorf("got %v", err)
	}
}

// A file that is exchanged after it was listed is judged by what was opened.
func TestAFileThatBecameSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	for name, swap := range map[string]func(p string) error{
		"pipe":     func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"link out": func(p string) error { return os.Symlink("/etc/passwd", p) },
		"folder":   func(p string) error { return os.Mkdir(p, 0o755) },
		"setuid file": func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o755), os.Chmod(p, 0o755|os.ModeSetuid))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			must(t, swap(dir+"/x"))
			w := walker{ctx: t.Context(), from: root(t, dir), limits: DefaultLimits(), buffer: make([]byte, 100)}
			if err := w.entry("x", "x", 0); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// A file that grows while it is read is cut off at the limit.
func TestAFileThatNeverEndsIsRefused(t *testing.T) {
	t.Parallel()
	w := walker{ctx: t.Context(), limits: Limits{Bytes: 1000}, buffer: make([]byte, 100)}
	if _, err := w.stream(sha256.New(), endless{}, "x"); !errors.Is(err, ErrHostile) {
		t.Errorf("got %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
