package operation

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/pluginsdir"
)

// shippedPlugins makes a folder as a release has it: a program mk, and plugins
// beside it that are never started.
func shippedPlugins(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mk := filepath.Join(dir, "bin", "mk")
	writeFile(t, mk, "#!/bin/false\n", 0o755)
	pluginFolder(t, filepath.Join(dir, "plugins", "certs-local"), "certs", "local", "grants: {}\n")
	pluginFolder(t, filepath.Join(dir, "plugins", "clustering-etcd"), "clustering", "etcd", clusteringGrants)
	pluginFolder(t, filepath.Join(dir, "plugins", "tokens-file"), "tokens", "file", "grants: {}\n")
	pluginFolder(t, filepath.Join(dir, "plugins", "addons-core"), "addons", "core", "grants: {}\n")
	return mk
}

func pluginFolder(t *testing.T, dir, kind, name, more string) {
	t.Helper()
	program := "#!/bin/false " + kind + name + "\n"
	sum := sha256.Sum256([]byte(program))
	writeFile(t, filepath.Join(dir, "bin", name), program, 0o755)
	writeFile(t, filepath.Join(dir, "plugin.yaml"), fmt.Sprintf(`apiVersion: mk8s.io/v1
kind: Plugin
identity: {kind: %s, name: %s, version: 1.0.0, description: for tests}
contracts: [mk.%s.v1]
platforms: [{os: linux, arch: amd64, bin: bin/%s, sha256: %q}]
%s`, kind, name, kind, name, hex.EncodeToString(sum[:]), more), 0o644)
}

func writeFile(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func newNode(t *testing.T, mk string) child {
	t.Helper()
	return child{Root: folder(t, ""), Mk: mk, Command: "start"}
}

// folder is a root folder, a copy of another where one is given.
func folder(t *testing.T, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	t.Cleanup(func() {
		root, err := node.Open(dir, node.Options{})
		if err != nil {
			return // it was never made
		}
		if err := errors.Join(os.RemoveAll(root.RunDir()), root.Close()); err != nil {
			t.Error(err)
		}
	})
	if from != "" {
		if err := copyTree(dir, from); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// installOther installs a second clustering plugin, to swap to.
func installOther(t *testing.T, c child) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "other")
	pluginFolder(t, dir, "clustering", "other", clusteringGrants)
	c.Command = "plugin use"
	n, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close() //nolint:errcheck // nothing was started
	_, err = n.Dir.Install(t.Context(), dir, pluginsdir.Options{
		Host: HostContracts("0.1.0"), By: "test", At: n.Now(), Consent: func(*pluginsdir.Proposal) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
}

// random are files whose content is never twice the same, though they are the
// same files: keys, what is signed for them, and what holds a time or the number of a network.
var random = regexp.MustCompile(`\.(key|crt|pem|config)$|^node\.json$|^plugins/(lock\.json|receipts|state|described)|cluster-token|^args/etcd$|^var/kernel\.json$`) //nolint:gochecknoglobals // a constant

// runDir is a node's folder for sockets: its name comes from the root's.
var runDir = regexp.MustCompile(`/run/mk/[0-9a-f]+`) //nolint:gochecknoglobals // a constant

// shape is every file of a node with mode, owner and, where it is no accident,
// its content. The journal is left out, and old contents, which stay until the
// next change.
func shape(t *testing.T, dir string) map[string]string {
	t.Helper()
	current, err := os.Readlink(filepath.Join(dir, "certs"))
	if err != nil {
		t.Error(err)
		return nil
	}
	out := map[string]string{}
	generations := 0
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		skip := strings.HasPrefix(d.Name(), ".mk-old-") || slices.Contains([]string{"var/journal", "var/lock/apply", "var/lock/operation", "certs"}, rel)
		if filepath.Dir(rel) == "var/certs" {
			generations++
			skip = rel != current
		}
		if skip {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		v := fmt.Sprintf("%v %d:%d", info.Mode(), st.Uid, st.Gid)
		if d.Type().IsRegular() && !random.MatchString(rel) {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			v += " " + runDir.ReplaceAllString(strings.ReplaceAll(string(data), dir, "ROOT"), "RUN")
		}
		out[strings.Replace(rel, current, "certs", 1)] = v
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if generations > 2 {
		t.Errorf("%d generations of certificates are kept", generations)
	}
	return out
}

// copyTree keeps modes, which os.CopyFS does not.
func copyTree(dst, src string) error {
	return filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			return errors.Join(os.Mkdir(to, 0o700), os.Chmod(to, info.Mode()))
		case fs.ModeSymlink:
			target, err := os.Readlink(p)
			return errors.Join(err, os.Symlink(target, to))
		}
		data, err := os.ReadFile(p)
		return errors.Join(err, os.WriteFile(to, data, 0o600), os.Chmod(to, info.Mode()))
	})
}

func compareShapes(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s: %s is %q, not %q", what, name, got[name], v)
		}
	}
	for name, v := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s should not be there (%s)", what, name, v)
		}
	}
}

// checkCertificates wants every certificate valid, with its key, and no
// operation open.
func checkCertificates(t *testing.T, c child) {
	t.Helper()
	command := c.Command
	c.Command = "look"
	n, err := c.open(c.options(nil))
	if err != nil {
		t.Error(err)
		return
	}
	defer n.Close() //nolint:errcheck // nothing was started
	for _, p := range n.Profiles() {
		reasons, err := n.Judge(p)
		if err != nil || len(reasons) > 0 {
			t.Errorf("after %s: certificate %s: %v %v", command, p, reasons, err)
		}
	}
	open, err := n.Journal.Open()
	if err != nil || open != nil {
		t.Errorf("after %s: open is %v (%v)", command, open, err)
	}
	if err := os.RemoveAll(filepath.Join(node.RunBase, n.Root.ID())); err != nil {
		t.Error(err)
	}
}
