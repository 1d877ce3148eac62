package remains

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func told(t *testing.T, dir, id, state string) {
	t.Helper()
	at := filepath.Join(dir, "k8s.io", id)
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "state.json"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Only cgroups of pods count, and each once; a hierarchy's root, a service or a
// folder elsewhere never does, whatever is written there.
func TestCgroupsOfContainers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	told(t, dir, "a", `{"init_process_pid": 7, "cgroup_paths": {
		"cpu": "/sys/fs/cgroup/cpu/kubepods.slice/kubepods-poda.slice/cri-containerd-a.scope",
		"": "/sys/fs/cgroup/kubepods.slice/kubepods-poda.slice/cri-containerd-a.scope"}}`)
	told(t, dir, "b", `{"cgroup_paths": {"cpu": "/sys/fs/cgroup/cpu/mk/1/kubepods/podb/b", "pids": "/sys/fs/cgroup/cpu/mk/1/kubepods/podb/b"}}`)
	told(t, dir, "c", `{"cgroup_paths": {"cpu": "/sys/fs/cgroup", "pids": "/sys/fs/cgroup/pids/system.slice", "x": "/etc/kubepods",
		"y": "/sys/fs/cgroup/../../../kubepods", "z": "kubepods"}}`)
	told(t, dir, "d", `{}`)
	got, err := Node{Runc: dir}.containers()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/sys/fs/cgroup/cpu/kubepods.slice/kubepods-poda.slice/cri-containerd-a.scope",
		"/sys/fs/cgroup/cpu/mk/1/kubepods/podb/b",
		"/sys/fs/cgroup/kubepods.slice/kubepods-poda.slice/cri-containerd-a.scope",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	told(t, dir, "e", `{"cgroup_paths": `)
	if _, err := (Node{Runc: dir}).containers(); err == nil {
		t.Error("half a file was read")
	}
	if none, err := (Node{Runc: filepath.Join(dir, "none")}).containers(); err != nil || len(none) > 0 {
		t.Errorf("%v %v", none, err)
	}
}

// Whatever is written, nothing but cgroups of pods comes out of it.
func FuzzState(f *testing.F) {
	f.Add("/sys/fs/cgroup/kubepods")
	f.Add("/sys/fs/cgroup/../kubepods")
	f.Fuzz(func(t *testing.T, path string) {
		file := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(file, fmt.Appendf(nil, `{"cgroup_paths": {"x": %q}}`, path), 0o600); err != nil {
			t.Fatal(err)
		}
		dirs, err := cgroupsOf(file)
		for _, d := range dirs {
			if rel, relErr := filepath.Rel(cgroupRoot, d); err != nil || relErr != nil || !filepath.IsLocal(rel) || rel == "." {
				t.Errorf("%q became %q", path, d)
			}
		}
	})
}
