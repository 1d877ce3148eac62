package membership

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
)

// errKilled stands for the end of the process.
var errKilled = errors.New("killed")

// What people made before a join is there again when it is taken back, to the
// letter and with its mode, wherever mk is killed on the way; at no time is a
// file of theirs missing. Of what the join brought nothing is left.
func TestWhatPeopleMadeStays(t *testing.T) {
	t.Parallel()
	for name, made := range map[string]map[string]fs.FileMode{
		"nothing":  {},
		"args":     {"args/kubelet": 0o600, "args/certs.d/docker.io/hosts.toml": 0o644},
		"settings": {"plugins/settings/tokens-file.json": 0o640},
		"plugins":  {"plugins/lock.json": 0o644, "plugins/settings/tokens-file.json": 0o600, "args/.owners.json": 0o600},
	} {
		for step := 1; takesBack(t, name, made, step); step++ {
			if t.Failed() {
				return
			}
		}
	}
}

// takesBack notes what is there, has a join write over it, and takes that back,
// killed before some change of the file system and run again. It reports
// whether that many were made.
func takesBack(t *testing.T, name string, made map[string]fs.FileMode, step int) (killed bool) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mk")
	ready, left := false, 0
	root, err := node.Create(dir, node.Options{Step: func(string, string) {
		if !ready {
			return
		}
		for f := range made {
			if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
				t.Errorf("%s, killed at step %d: %v", name, step, err)
			}
		}
		if left--; left == 0 {
			panic(errKilled)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() //nolint:errcheck // the test's own
	for f, mode := range made {
		write(t, filepath.Join(dir, f), "a person's", mode)
	}
	before := tree(t, dir)
	if err := root.Mkdir(joinFolder, node.Perm{Mode: 0o700, UID: -1, GID: -1}); err != nil {
		t.Fatal(err)
	}
	anew := func() *join {
		return &join{n: Of(&operation.Node{Root: root, Options: operation.Options{Progress: quiet{}}}), client: peer.New("127.0.0.1:1", peer.Options{Insecure: true}), free: true}
	}
	toItsEnd := func(do func() error) {
		for range 2 { // the second time nobody kills it
			if !dies(t, do) {
				return
			}
			killed = true
		}
		t.Fatal("killed twice")
	}
	ready, left = true, step
	toItsEnd(func() error { return anew().note() })
	for _, f := range []string{"args/kubelet", "args/.owners.json", "args/kube-proxy", "args/certs.d/docker.io/other", "args/certs.d/quay.io/hosts.toml",
		"plugins/lock.json", "plugins/settings/certs-local.json", "plugins/store/x/plugin", "plugins/state/certs/local/ca.key",
		"var/join/begun.json", "var/join/seal.key", "var/certs/1/kubelet.key", "var/lib/kubelet/x", "credentials/kubelet.config", "node.json"} {
		write(t, filepath.Join(dir, f), "the cluster's", 0o600)
	}
	toItsEnd(func() error { return anew().undo(t.Context()) })
	toItsEnd(anew().forget)
	after := tree(t, dir)
	if _, list := made["plugins/lock.json"]; list { // then plugins stay installed, and what is not active does nothing
		delete(after, "plugins/store/x/plugin")
	}
	if !maps.Equal(after, before) {
		t.Errorf("%s, killed at step %d: before %v, after %v", name, step, before, after)
	}
	return killed
}

// dies reports whether something was killed.
func dies(t *testing.T, do func() error) (killed bool) {
	t.Helper()
	defer func() {
		if e := recover(); e != nil {
			killed = true
		}
	}()
	if err := do(); err != nil {
		t.Error(err)
	}
	return false
}

func write(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(content), mode), os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
}

// tree has the mode and content of each file of a node.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || node.IsTemporary(d.Name()) { // those are swept
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p) //nolint:gosec // the test's own
		out[strings.TrimPrefix(p, dir+"/")] = info.Mode().String() + " " + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
