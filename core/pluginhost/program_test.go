package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestTheWrongChecksum(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	program := r.spec()
	script := r.script("echo started; sleep 60")
	for name, s := range map[string]Spec{"program": program, "script": script} {
		s.Digest = "sha256:" + strings.Repeat("0", 64)
		err := r.refused(s)
		integrity, ok := errors.AsType[*IntegrityError](err)
		if !ok || integrity.Path != s.Program || integrity.Want != s.Digest || integrity.Got == s.Digest {
			t.Errorf("%s: %v", name, err)
		}
		if want := "the lock file says 000000000000…"; ok && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that is replaced or overwritten all the time is either copied as it
// was installed or refused.
func TestSwappedDuringTheCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, good := filepath.Join(dir, "plugin"), bytes.Repeat([]byte("good program\n"), 100_000)
	bad := bytes.Repeat([]byte("evil program\n"), 100_000)
	write := func(content []byte) {
		if err := os.WriteFile(path, content, 0o755); err != nil {
			t.Error(err)
		}
	}
	write(good)
	want := digestOf(t, path)
	ctx, stop := context.WithCancel(t.Context())
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if n%2 == 0 {
				write(bad)
			} else {
				temp := path + ".new"
				if err := errors.Join(os.WriteFile(temp, good, 0o755), os.Rename(temp, path)); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var copied, refused int
	for copied+refused < 400 {
		f, _, err := openProgram(Spec{Program: path, Digest: want}, nil)
		if err != nil {
			if _, ok := errors.AsType[*IntegrityError](err); !ok {
				t.Fatal(err)
			}
			refused++
			continue
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, good) {
			t.Fatal("another program was let through", err)
		}
		copied++
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	swapping.Wait()
	t.Logf("%d copied, %d refused", copied, refused)
	if copied == 0 || refused == 0 {
		t.Errorf("%d copied, %d refused: nothing was raced", copied, refused)
	}
}

// What was checked is what runs, even if the file is overwritten before the
// start; and nobody can change the copy.
func TestSwappedBetweenCheckAndStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.spec()
	data, err := os.ReadFile(s.Program)
	if err != nil {
		t.Fatal(err)
	}
	s.Program = filepath.Join(r.base, "plugin")
	if err := os.WriteFile(s.Program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	f, _, err := openProgram(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Program, []byte("#!/bin/sh\necho evil\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []int{os.O_RDWR, os.O_WRONLY | os.O_TRUNC} {
		w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flag, 0)
		if err == nil {
			_, err = w.Write([]byte("x"))
			_ = w.Close()
		}
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("the copy can be written: %v", err)
		}
	}
	dir, err := runFolder(r.options.RunDir, pluginUser)
	if err != nil {
		t.Fatal(err)
	}
	p := &Plugin{Spec: s, dir: dir, gone: make(chan struct{}), log: newLogger(r.options.Log)}
	if err := r.launch(t.Context(), p, f); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// A script runs by its path, so nobody but root may be able to change what the
// path leads to, or what lies beside it.
func TestScriptsNeedStrictFolders(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spoil func(Spec) error
		want  string
	}{
		"writable by others":    {func(s Spec) error { return os.Chmod(s.Program, 0o757) }, "can be written by others"},
		"writable by the group": {func(s Spec) error { return os.Chmod(s.Program, 0o775) }, "can be written by others"},
		"another's":             {func(s Spec) error { return os.Chown(s.Program, pluginUser, 0) }, "belongs to user 64101"},
		"in a folder of others": {func(s Spec) error { return os.Chown(s.Dir, pluginUser, 0) }, "belongs to user 64101"},
		"in an open folder":     {func(s Spec) error { return os.Chmod(s.Dir, 0o777) }, "can be written by others"},
		"below an open folder":  {func(s Spec) error { return os.Chmod(filepath.Dir(s.Dir), 0o777) }, "can be written by others"},
		"a symbolic link": {func(s Spec) error {
			return errors.Join(os.Rename(s.Program, s.Program+"x"), os.Symlink("pluginx", s.Program))
		}, "too many levels of symbolic links"},
		"beside an open module": {func(s Spec) error {
			return errors.Join(os.WriteFile(s.Dir+"/m.py", nil, 0o600), os.Chmod(s.Dir+"/m.py", 0o666))
		}, "m.py can be written by others"},
		"beside another's module": {func(s Spec) error {
			return errors.Join(os.WriteFile(s.Dir+"/m.py", nil, 0o600), os.Chown(s.Dir+"/m.py", 7, 7))
		}, "m.py belongs to user 7"},
		"beside a link": {func(s Spec) error { return os.Symlink("/tmp/x", s.Dir+"/m.py") }, "m.py is a symbolic link"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s := r.script("echo started; sleep 60")
			if err := tt.spoil(s); err != nil {
				t.Fatal(err)
			}
			if err := r.refused(s); !strings.Contains(err.Error(), tt.want) {
				t.Error(err)
			}
		})
	}
}

func TestProgramsThatAreNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo") // opening one waits for the other end
	huge := filepath.Join(dir, "huge")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o755), os.WriteFile(huge, nil, 0o755), os.Truncate(huge, maxProgram+1)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{fifo: "is not a file", dir: "is not a file", huge: "larger than 512 MiB"} {
		if _, _, err := openProgram(Spec{Program: path, Digest: "sha256:x"}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
