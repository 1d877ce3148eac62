package remains

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// kernelOf is the kernel as a node of that name finds it on a machine whose
// /proc/sys is below dir.
func kernelOf(t *testing.T, dir, name string) Kernel {
	t.Helper()
	k := Kernel{File: filepath.Join(dir, name, "kernel.json"), Link: filepath.Join(dir, "run", name, "kernel.json"), Sys: filepath.Join(dir, "sys"), Routes: func() bool { return false }}
	for _, f := range []string{k.File, k.Link} {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// kernelSays gives settings values, and answers what all of them are.
func kernelSays(t *testing.T, k Kernel, values map[string]string) map[string]string {
	t.Helper()
	for name, v := range values {
		file := filepath.Join(k.Sys, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(v+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := map[string]string{}
	for _, s := range made() {
		if v, ok := k.read(s.name); ok {
			now[s.name] = v
		}
	}
	return now
}

const (
	overcommit  = "vm/overcommit_memory"
	panics      = "kernel/panic"
	established = "net/netfilter/nf_conntrack_tcp_timeout_established"
)

func TestKernelIsAsBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := kernelOf(t, dir, "a")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kernelSays(t, k, map[string]string{overcommit: "2", panics: "0"})
	must(k.Note())
	kernelSays(t, k, map[string]string{overcommit: "1", panics: "60", established: "86400"})
	must(k.Note()) // what was noted stays
	must(k.Restore())
	now := kernelSays(t, k, nil)
	// Somebody has said meanwhile how long to wait after a panic; connections
	// were known to nobody before.
	for name, want := range map[string]string{overcommit: "2", panics: "60", established: "432000"} {
		if now[name] != want {
			t.Errorf("%s is %s, not %s", name, now[name], want)
		}
	}
	if _, err := os.Lstat(k.File); err == nil {
		t.Error("what was noted is still there")
	}
	must(k.Restore()) // again is no error
}

// TestPacketsPass: who lets packets pass for somebody else goes on with it, and
// takes no more redirects than before.
func TestPacketsPass(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, now, want string // of ip_forward and accept_redirects
		routes            bool
	}{
		"a plain machine":            {"0 1", "1 0", "0 1", false},
		"one that takes no redirect": {"0 0", "1 0", "0 0", false},
		"and then the kernel did":    {"0 0", "0 1", "0 0", false},
		"a bridge of somebody else":  {"0 1", "1 0", "1 0", true},
		"a router":                   {"1 1", "1 0", "1 0", false},
	} {
		k := kernelOf(t, t.TempDir(), "a")
		k.Routes = func() bool { return c.routes }
		set := func(both string) {
			a, b, _ := strings.Cut(both, " ")
			kernelSays(t, k, map[string]string{forward: a, redirects: b})
		}
		set(c.before)
		if err := k.Note(); err != nil {
			t.Fatal(err)
		}
		set(c.now)
		if err := k.Restore(); err != nil {
			t.Fatal(err)
		}
		now := kernelSays(t, k, nil)
		if got := now[forward] + " " + now[redirects]; got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
}

// TestKernelThatRefuses: what cannot be set back is named, and nothing keeps a
// node from going.
func TestKernelThatRefuses(t *testing.T) {
	t.Parallel()
	k := kernelOf(t, t.TempDir(), "a")
	kernelSays(t, k, map[string]string{forward: "0", redirects: "1", panics: "0"})
	if err := k.Note(); err != nil {
		t.Fatal(err)
	}
	kernelSays(t, k, map[string]string{panics: "10"})
	file := filepath.Join(k.Sys, redirects)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/sys/kernel/ngroups_max", file); err != nil { // which nobody writes
		t.Fatal(err)
	}
	err := k.Restore()
	if err == nil || strings.Count(err.Error(), redirects) != 1+strings.Count(err.Error(), file) {
		t.Errorf("what cannot be set back is not named once: %v", err)
	}
	if v, _ := k.read(panics); v != "0" {
		t.Errorf("the other one is %s: %v", v, err)
	}
	if _, err := os.Lstat(k.File); err == nil {
		t.Error("what was noted is still there")
	}
}

func TestKernelOfTwoNodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := kernelOf(t, dir, "a"), kernelOf(t, dir, "b")
	kernelSays(t, first, map[string]string{overcommit: "0"})
	for _, k := range []Kernel{first, second} {
		if err := k.Note(); err != nil {
			t.Fatal(err)
		}
		kernelSays(t, k, map[string]string{overcommit: "1"})
	}
	if err := first.Restore(); err != nil {
		t.Fatal(err)
	}
	if v, _ := first.read(overcommit); v != "1" {
		t.Errorf("the other node needs it, and it is %s", v)
	}
	if err := second.Restore(); err != nil {
		t.Fatal(err)
	}
	if v, _ := second.read(overcommit); v != "0" {
		t.Errorf("no node is left, and it is %s", v)
	}
}

// TestKernelOfNobody has files in which there is no sense.
func TestKernelOfNobody(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "[]", `{"before":5}`, `{"before":{"../../etc/passwd":"x","vm/overcommit_memory":"7"}}`} {
		k := kernelOf(t, t.TempDir(), "a")
		if err := os.WriteFile(k.File, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		kernelSays(t, k, map[string]string{overcommit: "2"})
		if err := k.Restore(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if v, _ := k.read(overcommit); v != "2" {
			t.Errorf("%q: it is %s", text, v)
		}
	}
}

func TestElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := Elsewhere{CNI: filepath.Join(dir, "cni"), Links: filepath.Join(dir, "links"), Run: "/run/mk/0a", Logs: "/root/a/var/log/pods"}
	if err := e.Remove(); err != nil {
		t.Fatalf("nothing is there: %v", err)
	}
	for _, d := range []string{e.CNI, e.Links} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"gone-1": `{"netns":"/run/mk/0a/containerd/netns/x"}`, "stays-1": `{"netns":"/run/mk/0ab/netns/x"}`, "stays-2": `{"netns":"/run/netns/x"}`, "stays-3": "{",
	} {
		if err := os.WriteFile(filepath.Join(e.CNI, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"gone-1": "/root/a/var/log/pods/x/0.log", "stays-1": "/root/b/var/log/pods/x/0.log", "stays-2": "/var/log/pods/x/0.log"} {
		if err := os.Symlink(to, filepath.Join(e.Links, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Remove(); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]string{e.CNI: "stays-1 stays-2 stays-3", e.Links: "stays-1 stays-2"} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s holds %s, not %s", folder, got, want)
		}
	}
}
