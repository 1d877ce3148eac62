package change

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// killed is what a Step panics with: the process ends there. Unlike a real
// kill it runs deferred functions; core/operation has the real one.
type killed struct{}

// dies runs f until its nth step and reports whether it came to that.
func (w *world) dies(n int, f func()) (died bool) {
	w.t.Helper()
	at := 0
	w.step = func(op, path string) {
		w.secretsAreSafe(op + " " + path)
		if at++; at == n {
			panic(killed{})
		}
	}
	defer func() {
		w.step = nil
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
			died = true
		}
	}()
	f()
	return false
}

// secretsAreSafe looks at every file with a secret in it: its mode never lets
// others read it, whatever its folder would.
func (w *world) secretsAreSafe(when string) {
	w.t.Helper()
	err := filepath.WalkDir(w.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(data), "SECRET") && info.Mode().Perm()&0o077 != 0 {
			w.t.Errorf("before %s: others may read %s (%v)", when, p, info.Mode())
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// next is the process that comes after one that was killed.
func (w *world) next() {
	w.t.Helper()
	root, err := node.Open(w.dir, node.Options{Step: w.stepped})
	if err != nil {
		w.t.Fatal(err)
	}
	w.use(root)
}

// manyChanges is a ChangeSet with everything in it.
func manyChanges() changeset.ChangeSet {
	secret := func(p string) changeset.Action {
		return &write{Path: p, Content: []byte("SECRET new"), Secret: true}
	}
	return plain(
		file("a", "2"), secret("s"), secret("n/m/s"), &remove{Path: "gone"}, &remove{Path: "full"},
		&move{From: "data", To: "data.old"}, &mkdir{Path: "data", Mode: 0o700}, secret("data/s"),
		file("data.old/x", "2"), secret("a"), &remove{Path: "empty"}, secret("empty"),
		&setArg{Service: "etcd", Option: "token", Value: value("SECRET"), Secret: true},
		&issue{Profile: "server"}, secret("certs/sub/s"), &changeset.SetLock{Name: "ha-cluster"},
		&control{Service: "etcd", Action: changeset.Stop}, &control{Service: "etcd", Action: changeset.Start},
		&control{Service: "kubelite", Action: changeset.Restart},
	)
}

func crashWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := worldAt(t, dir)
	w.put(map[string]string{
		"a": "1", "s": "SECRET old", "gone": "SECRET", "full/x/y": "SECRET", "data/x": "1", "data/e/": "", "empty/": "",
		"args/etcd": "--a\n", "certs/server.key": "SECRET old", "certs/mine": "1",
	})
	w.services.up = map[string]bool{"etcd": true, "kubelite": true}
	return w
}

// Killed before any of its steps, and once more while the next process brings
// the node to one of its ends, an apply was not at all or was as a whole.
func TestKilledApply(t *testing.T) {
	t.Parallel()
	ref := crashWorld(t, filepath.Join(t.TempDir(), "node"))
	before := ref.tree()
	if err := ref.applySet(1, manyChanges()); err != nil {
		t.Fatal(err)
	}
	after := ref.tree()
	for n := 1; ; n++ {
		w := crashWorld(t, filepath.Join(t.TempDir(), "node"))
		if !w.dies(n, func() { _ = w.applySet(1, manyChanges()) }) {
			t.Logf("%d steps", n-1)
			return
		}
		// A second kill at a step that moves with the first: all pairs are too
		// many, and every recovery's step has its turn.
		w.next()
		w.dies(1+n%23, func() { _ = w.engine.Recover(t.Context()) })
		w.recovers(n, before, after)
		w.mustApplyAgain(n)
	}
}

// recovers has the next process recover and compares with both ends.
func (w *world) recovers(n int, ends ...map[string]string) {
	w.t.Helper()
	w.next()
	if err := w.engine.Recover(w.t.Context()); err != nil {
		w.t.Fatalf("killed at step %d: %v", n, err)
	}
	got := w.tree()
	var all []string
	for _, end := range ends {
		d := diff(end, got)
		if d == "" {
			return
		}
		all = append(all, d)
	}
	w.t.Fatalf("killed at step %d, the node is at neither end:\n%s", n, strings.Join(all, "\n--\n"))
}

func (w *world) mustApplyAgain(n int) {
	w.t.Helper()
	w.mustApply(1000, file("later", strconv.Itoa(n)))
	w.noLeftovers()
}

// The same for an apply that fails at its end and is taken back.
func TestKilledRollBack(t *testing.T) {
	t.Parallel()
	ref := crashWorld(t, filepath.Join(t.TempDir(), "node"))
	before := ref.tree()
	if err := ref.applySet(1, manyChanges()); err != nil {
		t.Fatal(err)
	}
	after := ref.tree()
	for n := 1; ; n++ {
		w := crashWorld(t, filepath.Join(t.TempDir(), "node"))
		w.services.fail = map[string]error{"restart kubelite": fs.ErrInvalid}
		died := w.dies(n, func() {
			if err := w.applySet(1, manyChanges()); err == nil {
				t.Error("it did not fail")
			}
		})
		if !died {
			if d := diff(before, w.tree()); d != "" {
				t.Fatalf("after it failed:\n%s", d)
			}
			t.Logf("%d steps", n-1)
			return
		}
		w.next()
		w.dies(1+n%29, func() { _ = w.engine.Recover(t.Context()) })
		w.services.fail = nil
		w.recovers(n, before, after)
		w.mustApplyAgain(n)
	}
}

// And for an undo: from its first record on there is only backwards.
func TestKilledUndo(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		w := crashWorld(t, filepath.Join(t.TempDir(), "node"))
		before := w.tree()
		if err := w.applySet(1, manyChanges()); err != nil {
			t.Fatal(err)
		}
		after := w.tree()
		if !w.dies(n, func() { _ = w.engine.Undo(t.Context(), ID{1, 1}) }) {
			t.Logf("%d steps", n-1)
			return
		}
		w.next()
		w.dies(1+n%17, func() { _ = w.engine.Recover(t.Context()) })
		w.recovers(n, before, after)
		w.mustApplyAgain(n)
	}
}
