package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// world is a node with stubs for what an engine uses.
type world struct {
	t        *testing.T
	dir      string
	root     *node.Root
	engine   *Engine
	services *stubServices
	objects  *stubObjects
	step     func(op, path string)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return worldAt(t, filepath.Join(t.TempDir(), "node"))
}

func worldAt(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{t: t, dir: dir, services: &stubServices{up: map[string]bool{}}, objects: &stubObjects{}}
	root, err := node.Create(dir, node.Options{Step: w.stepped})
	if err != nil {
		t.Fatal(err)
	}
	w.use(root)
	return w
}

func (w *world) stepped(op, path string) {
	if w.step != nil {
		w.step(op, path)
	}
}

func (w *world) use(root *node.Root) {
	w.root = root
	w.t.Cleanup(func() { _ = root.Close() })
	w.engine = &Engine{
		Root: root, Owner: lock.Owner{PID: os.Getpid(), User: "test", Verb: "test"}, Issuer: stubIssuer{},
		Services: w.services, Objects: w.objects, Plugins: stubPlugins{}, Step: w.stepped,
	}
}

// put writes files before a test; a name that ends with / is a folder.
func (w *world) put(files map[string]string) {
	w.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		full := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(full, 0o755); err != nil {
				w.t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(full, []byte(files[name]), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) apply(n int, ops ...changeset.Action) error {
	return w.applySet(n, plain(ops...))
}

func (w *world) applySet(n int, cs changeset.ChangeSet) error {
	return w.engine.Apply(w.t.Context(), ID{n, 1}, fmt.Sprintf("op-%d", n), cs)
}

func (w *world) mustApply(n int, ops ...changeset.Action) {
	w.t.Helper()
	if err := w.apply(n, ops...); err != nil {
		w.t.Fatal(err)
	}
}

func plainWith(f func(*changeset.Operation), ops ...changeset.Action) changeset.ChangeSet {
	cs := changeset.ChangeSet{}
	for _, a := range ops {
		op := changeset.Operation{Action: a}
		f(&op)
		cs.Operations = append(cs.Operations, op)
	}
	return cs
}

// tree is everything below the root but the journal and the locks: modes,
// owners and contents. Old contents, which stay until the next change, are
// left out too.
func (w *world) tree() map[string]string {
	w.t.Helper()
	return treeOf(w.t, w.dir, false)
}

func treeOf(t *testing.T, dir string, all bool) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if !all && (rel == "var/journal" || rel == "var/lock/apply" || strings.HasPrefix(d.Name(), ".mk-old-")) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content := ""
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			content, err = os.Readlink(p)
		case d.Type().IsRegular():
			var data []byte
			data, err = os.ReadFile(p)
			content = string(data)
		}
		out[rel] = fmt.Sprintf("%v %s", info.Mode(), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// diff names the differences of two trees.
func diff(want, got map[string]string) string {
	var out []string
	for name, v := range want {
		if g, ok := got[name]; !ok {
			out = append(out, "- "+name+": "+v)
		} else if g != v {
			out = append(out, "! "+name+": "+g+", not "+v)
		}
	}
	for name, v := range got {
		if _, ok := want[name]; !ok {
			out = append(out, "+ "+name+": "+v)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// stubServices remembers which services run, and what was asked.
type stubServices struct {
	mu    sync.Mutex
	up    map[string]bool
	boot  map[string]bool
	calls []string
	fail  map[string]error // by "start name" and the like
}

func (s *stubServices) call(what string, names []string, up func(name string)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.calls = append(s.calls, what+" "+n)
		if err := s.fail[what+" "+n]; err != nil {
			return err
		}
		up(n)
	}
	return nil
}

func (s *stubServices) Start(_ context.Context, names ...string) error {
	return s.call("start", names, func(n string) { s.up[n] = true })
}

func (s *stubServices) Stop(_ context.Context, names ...string) error {
	return s.call("stop", names, func(n string) { s.up[n] = false })
}

func (s *stubServices) Restart(_ context.Context, names ...string) error {
	return s.call("restart", names, func(string) {})
}

func (s *stubServices) Running(context.Context) (map[string]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.up), nil
}

func (s *stubServices) Boot(_ context.Context, on bool, names ...string) error {
	return s.call(fmt.Sprintf("boot %v", on), names, func(n string) {
		if s.boot == nil {
			s.boot = map[string]bool{}
		}
		s.boot[n] = on
	})
}

// stubObjects remembers what was asked.
type stubObjects struct {
	calls []string
	fail  error
}

func (o *stubObjects) note(s string) error {
	o.calls = append(o.calls, s)
	return o.fail
}

func (o *stubObjects) ApplyManifests(_ context.Context, m changeset.ApplyManifests) error {
	return o.note("apply " + m.Inventory)
}

func (o *stubObjects) DeleteManifests(_ context.Context, m changeset.DeleteManifests) error {
	return o.note("delete " + m.Inventory)
}

func (o *stubObjects) ChangeMember(_ context.Context, m changeset.ChangeMember) error {
	return o.note("member " + m.PeerAddress)
}

func (o *stubObjects) Want(_ context.Context, ops []changeset.Operation) error {
	return o.note(fmt.Sprintf("want %d", len(ops)))
}

func (o *stubObjects) Wait(_ context.Context, w changeset.Wait, _ func(string)) error {
	return o.note("wait " + w.Service)
}

// stubIssuer answers a pair for each profile.
type stubIssuer struct{}

func (stubIssuer) Issue(_ context.Context, id string, wanted []changeset.IssueCertificate) ([]File, error) {
	var out []File
	for _, w := range wanted {
		if w.Profile == "refused" {
			return nil, errors.New("refused")
		}
		out = append(out,
			File{Path: "certs/" + w.Profile + ".key", Content: []byte("SECRET key " + id), Secret: true},
			File{Path: "certs/" + w.Profile + ".crt", Content: []byte("certificate " + id), Mode: 0o644})
	}
	return out, nil
}

func (stubIssuer) Promise(changeset.Action) ([]string, string, error) { return nil, "", nil }

func (stubIssuer) Trust(a changeset.SetTrust) ([]File, error) {
	return []File{{Path: "certs/" + a.Authority + ".crt", Content: a.Bundle, Mode: 0o644}}, nil
}

// stubPlugins writes down what is active.
type stubPlugins struct{}

func (stubPlugins) Activate(_ context.Context, all []changeset.ActivatePlugin) (File, error) {
	var b strings.Builder
	for _, a := range all {
		fmt.Fprintln(&b, a.Kind, a.Name, a.Digest)
	}
	return File{Path: "plugins/lock.json", Content: []byte(b.String()), Mode: 0o640, Secret: true}, nil
}

func value(s string) *string { return &s }

func plain(ops ...changeset.Action) changeset.ChangeSet {
	return plainWith(func(*changeset.Operation) {}, ops...)
}

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}
