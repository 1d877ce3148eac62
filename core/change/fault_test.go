package change

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mk8s.io/mk/sdk/changeset"
)

// A service that does not start leaves the node as it was, and running.
func TestFailedStart(t *testing.T) {
	t.Parallel()
	w := crashWorld(t, filepath.Join(t.TempDir(), "node"))
	before := w.tree()
	broken := errors.New("etcd does not start")
	w.services.fail = map[string]error{"restart kubelite": broken}
	if err := w.applySet(1, manyChanges()); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if d := diff(before, w.tree()); d != "" {
		t.Errorf("changed:\n%s", d)
	}
	w.noLeftovers()
	if !w.services.up["etcd"] || !w.services.up["kubelite"] {
		t.Errorf("what ran is down: %v", w.services.up)
	}
	h, err := w.engine.loadJournal(ID{1, 1})
	if err != nil || h.last != recordUndone {
		t.Fatalf("%+v %v", h, err)
	}
	if err := w.engine.Undo(t.Context(), ID{1, 1}); !errors.Is(err, ErrNotLast) {
		t.Errorf("what was taken back was undone: %v", err)
	}
}

// A service that cannot be brought back is named, and does not keep the files
// from coming back or the next change from being made.
func TestServiceStaysDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(map[string]string{"a": "1"})
	before := w.tree()
	w.services.up = map[string]bool{"kubelite": true}
	w.services.fail = map[string]error{"restart kubelite": errors.New("no"), "start kubelite": errors.New("no again")}
	err := w.apply(1, file("a", "2"), &control{Service: "kubelite", Action: changeset.Restart})
	if err == nil || !strings.Contains(err.Error(), "bring service kubelite back") {
		t.Errorf("%v does not name what remains", err)
	}
	if d := diff(before, w.tree()); d != "" {
		t.Errorf("changed:\n%s", d)
	}
	w.mustApply(2, file("a", "3"))
}

// A service that a ChangeSet starts, and that was down before, is down again
// before the files under it change back.
func TestStartedIsStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(map[string]string{"a": "1"})
	w.services.up = map[string]bool{"kubelite": true}
	w.services.fail = map[string]error{"restart kubelite": errors.New("no")}
	if err := w.apply(1, file("a", "2"), &control{Service: "etcd", Action: changeset.Start},
		&control{Service: "kubelite", Action: changeset.Restart}); err == nil {
		t.Fatal("it did not fail")
	}
	if w.services.up["etcd"] || !w.services.up["kubelite"] {
		t.Errorf("%v", w.services.up)
	}
}

// What cannot be taken back is named; the journal stays open, and the next
// command takes it back.
func TestRollBackFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(map[string]string{"d/a": "1", "b": "1"})
	before := w.tree()
	w.services.fail = map[string]error{"start etcd": errors.New("no")}
	w.step = func(op, _ string) {
		if op == "take back service" { // a person is at work at the wrong time
			must(t, os.Rename(filepath.Join(w.dir, "d"), filepath.Join(w.dir, "e")))
			must(t, os.WriteFile(filepath.Join(w.dir, "d"), nil, 0o600))
		}
	}
	err := w.apply(1, file("b", "2"), &mkdir{Path: "n"}, file("d/a", "2"), &control{Service: "etcd", Action: changeset.Start})
	w.step = nil
	if err == nil || !strings.Contains(err.Error(), "take back replace of d/a") {
		t.Errorf("%v does not name what remains", err)
	}
	if got := w.tree()["b"]; got != "-rw------- 1" {
		t.Errorf("b was not taken back: %s", got)
	}
	if err := w.engine.Recover(t.Context()); err == nil || !strings.Contains(err.Error(), "d/a") {
		t.Errorf("recover: %v", err)
	}
	must(t, os.Remove(filepath.Join(w.dir, "d")))
	must(t, os.Rename(filepath.Join(w.dir, "e"), filepath.Join(w.dir, "d")))
	must(t, w.engine.Recover(t.Context()))
	if d := diff(before, w.tree()); d != "" {
		t.Errorf("changed:\n%s", d)
	}
	w.noLeftovers()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A context that ends in the middle is a failure like others.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.tree()
	ctx, cancel := contextOf(t)
	w.step = func(op, path string) {
		if op == "entry replace" && path == "b" {
			cancel()
		}
	}
	err := w.engine.Apply(ctx, ID{1, 1}, "op", plain(file("a", "1"), file("b", "1"), file("c", "1")))
	if err == nil || ctx.Err() == nil {
		t.Fatal(err)
	}
	if d := diff(before, w.tree()); d != "" {
		t.Errorf("changed:\n%s", d)
	}
}

// onSmallDisk runs f with a disk of a few pages; it needs root.
func onSmallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	must(t, os.Mkdir(dir, 0o755))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A disk that gets full anywhere in an apply leaves the node as it was. The
// sizes make it full at different places: in the journal, in what is staged, in
// what is done.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	full := 0
	for _, free := range []int{0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 24} {
		dir := onSmallDisk(t, "size=1m,mode=755")
		w := crashWorld(t, filepath.Join(dir, "node"))
		before := w.tree()
		must(t, w.engine.Recover(t.Context())) // makes what a lock needs
		fill(t, dir, free)
		err := w.applySet(1, manyChanges())
		if err == nil {
			continue
		}
		full++
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d pages free: %v", free, err)
		}
		if d := diff(before, w.tree()); d != "" {
			t.Errorf("%d pages free, changed:\n%s", free, d)
		}
		must(t, os.Remove(filepath.Join(dir, "filler")))
		must(t, w.engine.Recover(t.Context()))
		w.mustApply(2, file("later", "1"))
		w.noLeftovers()
	}
	if full < 3 || full == 11 {
		t.Errorf("the disk was full %d times of 11: the sizes do not fit any more", full)
	}
}

// fill leaves a number of pages free.
func fill(t *testing.T, dir string, pages int) {
	t.Helper()
	var st syscall.Statfs_t
	must(t, syscall.Statfs(dir, &st))
	f, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	defer f.Close() //nolint:errcheck // nothing of it is read
	for range int(st.Bavail) - pages {
		if _, err := f.Write(make([]byte, st.Bsize)); err != nil {
			return
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := onSmallDisk(t, "size=1m,mode=755")
	w := crashWorld(t, filepath.Join(dir, "node"))
	before := treeOf(t, w.dir, true)
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	err := w.applySet(1, manyChanges())
	if !errors.Is(err, syscall.EROFS) {
		t.Errorf("%v does not say that the disk is read-only", err)
	}
	must(t, w.engine.Recover(t.Context())) // there is nothing to do
	if d := diff(before, treeOf(t, w.dir, true)); d != "" {
		t.Errorf("changed:\n%s", d)
	}
}

// What an earlier change replaced is kept until the next one begins.
func TestOldIsSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(map[string]string{"s": "SECRET old", "d/x": "SECRET", "certs/k": "SECRET"})
	w.mustApply(1, file("s", "new"), &remove{Path: "d"}, file("certs/k", "new"))
	if n := w.holding("SECRET"); n != 3 {
		t.Fatalf("%d old copies are kept", n)
	}
	w.mustApply(2, file("other", "1"))
	if n := w.holding("SECRET"); n != 0 {
		t.Errorf("%d old copies are left", n)
	}
	w.noLeftovers()
	if err := w.engine.Undo(t.Context(), ID{1, 1}); !errors.Is(err, ErrNotLast) {
		t.Errorf("undone: %v", err)
	}
}

func (w *world) holding(text string) int {
	n := 0
	for _, content := range treeOf(w.t, w.dir, true) {
		if strings.Contains(content, text) {
			n++
		}
	}
	return n
}

func TestUndoRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, w *world){
		"a newer change": func(_ *testing.T, w *world) { w.mustApply(2, file("z", "1")) },
		"an edited file": func(t *testing.T, w *world) { must(t, os.WriteFile(filepath.Join(w.dir, "a"), []byte("me"), 0o600)) },
		"a removed file": func(t *testing.T, w *world) { must(t, os.Remove(filepath.Join(w.dir, "new"))) },
		"no old content": func(t *testing.T, w *world) {
			must(t, filepath.WalkDir(w.dir, func(p string, d fs.DirEntry, err error) error {
				if err == nil && strings.HasPrefix(d.Name(), ".mk-old-") {
					return os.Remove(p)
				}
				return err
			}))
		},
		"it came back": func(t *testing.T, w *world) { must(t, os.WriteFile(filepath.Join(w.dir, "gone"), nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put(map[string]string{"a": "1", "gone": "1"})
			w.mustApply(1, file("a", "2"), file("new", "2"), &remove{Path: "gone"})
			change(t, w)
			before := w.tree()
			if err := w.engine.Undo(t.Context(), ID{1, 1}); !errors.Is(err, ErrNotLast) {
				t.Errorf("%v", err)
			}
			if d := diff(before, w.tree()); d != "" {
				t.Errorf("changed:\n%s", d)
			}
		})
	}
	// Again is no error; the one before is no longer kept.
	w := newWorld(t)
	w.mustApply(1, file("a", "1"))
	w.mustApply(2, file("a", "2"))
	must(t, w.engine.Undo(t.Context(), ID{2, 1}))
	must(t, w.engine.Undo(t.Context(), ID{2, 1}))
	if err := w.engine.Undo(t.Context(), ID{1, 1}); !errors.Is(err, ErrNotLast) {
		t.Errorf("the one before: %v", err)
	}
	if got := w.tree()["a"]; got != "-rw-r--r-- 1" {
		t.Error(got)
	}
	if ids, err := w.engine.Applied(2); err != nil || len(ids) != 1 {
		t.Errorf("%v %v", ids, err)
	}
	w = newWorld(t)
	if err := w.engine.Undo(t.Context(), ID{7, 1}); !errors.Is(err, ErrNotLast) {
		t.Errorf("of no change at all: %v", err)
	}
}
