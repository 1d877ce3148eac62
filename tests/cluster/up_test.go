//go:build cluster

package cluster

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestUp is the README's first command where everything is built: a node that
// is Ready, with dns. Again it takes seconds. After a reset the node is like
// new: nothing is left, and the same files are made again.
func TestUp(t *testing.T) {
	m := newMachine(t, 10, true)
	before := m.asNew()
	up := func() {
		t.Helper()
		out, err := m.try(3*time.Minute, "make", "-C", "../..", "up")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, "mk is running") || !strings.Contains(out, "dns") {
			t.Fatalf("make up:\n%s", out)
		}
	}
	twice := func() (files []string) {
		t.Helper()
		up()
		m.kubectl("rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=120s")
		began := time.Now()
		up()
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("make up on a node that runs took %s", took)
		} else {
			t.Logf("make up again: %s", round(took))
		}
		return made(t, m.Root)
	}
	fresh := twice()
	m.run("mk", "reset", "--all", "--yes")
	nothingLeft(t, m)
	likeBefore(t, m, before)
	if left := made(t, m.Root); len(left) > 1 { // the folder itself
		t.Errorf("after the reset there are %q", left)
	}
	again := twice()
	m.eventually(time.Minute, func() error { // the agent writes some of them
		if !slices.Equal(again, fresh) {
			err := fmt.Errorf("files of a new node, and of one after a reset:\n%s", differ(fresh, again))
			again = made(t, m.Root)
			return err
		}
		return nil
	})
}

// random is what names are made of that are never the same.
var random = regexp.MustCompile(`[0-9a-f]{32,}`)

// made are the files and folders of a node with their modes, but for what the
// datastore, the kubelet and containerd keep there.
func made(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // it is made and removed while the node runs
		}
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		all = append(all, fmt.Sprintf("%s %s", info.Mode(), random.ReplaceAllString(name, "*")))
		switch name {
		case "var/kubernetes", "var/lib/containerd", "var/lib/kubelet", "var/log/pods":
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// differ are the lines that one of two sorted lists has alone.
func differ(a, b []string) string {
	var out strings.Builder
	for _, s := range a {
		if !slices.Contains(b, s) {
			fmt.Fprintf(&out, "- %s\n", s)
		}
	}
	for _, s := range b {
		if !slices.Contains(a, s) {
			fmt.Fprintf(&out, "+ %s\n", s)
		}
	}
	return out.String()
}
