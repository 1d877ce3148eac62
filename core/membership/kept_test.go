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
)

// errKilled stands for the end of the process.
var errKilled = errors.New("killed")

// What people made before a join is there again when it is taken back, to the
// letter and with its mode, wherever mk is killed on the way; at no time is a
// file of theirs missing. What the join brought is gone.
func TestWhatPeopleMadeStays(t *testing.T) {
	t.Parallel()
	for name, made := range map[string]map[string]fs.FileMode{
		"nothing":  {},
		"args":     {"args/kubelet": 0o600, "args/certs.d/docker.io/hosts.toml": 0o644},
		"settings": {"plugins/settings/tokens-file.json": 0o640},
		"plugins":  {"plugins/lock.json": 0o644, "plugins/settings/tokens-file.json": 0o600, "args/.owners.json": 0o600},
	} {
		for step := 1; ; step++ {
			dir := filepath.Join(t.TempDir(), "mk")
			left := 0
			root, err := node.Create(dir, node.Options{Step: func(string, string) {
				for f := range made {
					if _, err := os.Stat(filepath.Join(dir, f)); err != nil && left > 0 {
						t.Errorf("%s, step %d: %v", name, step, err)
					}
				}
				if left--; left == 0 {
					panic(errKilled)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			for f, mode := range made {
				write(t, filepath.Join(dir, f), "a person's", mode)
			}
			before := tree(t, dir)
			j := &join{n: Of(&operation.Node{Root: root})}
			if err := root.Mkdir(joinFolder, node.Perm{Mode: 0o700, UID: -1, GID: -1}); err != nil {
				t.Fatal(err)
			}
			left = step
			killed := toItsEnd(j.note)
			if killed {
				toItsEnd(j.note)
			}
			for _, f := range []string{"args/kubelet", "args/.owners.json", "args/kube-proxy", "args/certs.d/docker.io/other", "args/certs.d/quay.io/hosts.toml",
				"plugins/lock.json", "plugins/store/x/plugin", "plugins/state/certs/local/ca.key"} {
				write(t, filepath.Join(dir, f), "the cluster's", 0o600)
			}
			killed = toItsEnd(j.putBack) || killed
			left = 0
			if err := errors.Join(j.putBack(), root.RemoveAll("var/join")); err != nil {
				t.Fatal(err)
			}
			after := tree(t, dir)
			if _, list := made["plugins/lock.json"]; list { // then plugins stay installed, and what is not active does nothing
				delete(after, "plugins/store/x/plugin")
			}
			if !maps.Equal(after, before) {
				t.Fatalf("%s, killed at step %d: before %v, after %v", name, step, before, after)
			}
			_ = root.Close()
			if !killed {
				break
			}
		}
	}
}

// toItsEnd reports whether something was killed.
func toItsEnd(do func() error) (killed bool) {
	defer func() {
		if e := recover(); e != nil {
			killed = true
		}
	}()
	return do() != nil
}

func write(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(content), mode), os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
}

// tree has the mode and content of each file of a node that people may write.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, top := range []string{"args", "plugins"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".mk-") {
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
	}
	return out
}
