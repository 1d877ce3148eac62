package cli

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/core/node"
)

// edited is a file that a person may edit, with a fault in it, and what reads
// it. Each command must end with exit code 2 and name the file and the line.
type edited struct {
	file, text string
	line       string // file:line, as it must be named
	commands   []string
}

func editedFiles() []edited {
	all := []string{"status", "stop", "certs", "args list", "plugin list", "changes", "refresh-certs"}
	services := []string{"restart", "start --dry-run"} // what would read it anew
	return []edited{
		{"settings.yaml", "group: root\nkey-type: dsa\n", "settings.yaml:2", append(all, "settings", "settings set cert-warn 9d")},
		{"settings.yaml", "group: root\n\tx: y\n", "settings.yaml:2", all},
		{"args/kubelet", "# mine\n--max-pods=200\nmax-pods 200\n", "args/kubelet:3", []string{"args list kubelet", "args get kubelet max-pods", "args set kubelet max-pods=9", "args unset kubelet max-pods", "args list"}},
		{"args/kubelet", "max-pods 200\n", "args/kubelet:1", services},
		{"args/etcd", "--name=\"a\n", "args/etcd:1", []string{"args list etcd", "args set etcd name=b"}},
		{"node.json", "{\n  \"schema\": 1,\n  \"name\" \"a\"\n}\n", "node.json:3", all},
		{"node.json", "{\n  \"schema\": 1,\n  \"nmae\": \"a\"\n}\n", "node.json:3", all},
		{"plugins/lock.json", "{\n  \"schema\": 1,\n  \"installed\": [\n}\n", "plugins/lock.json:3", []string{"plugin list", "plugin verify", "plugin info certs/local", "plugin use certs/local", "addons", "version --all"}},
		{"certs/csr.conf.template", "[ req ]\nprompt = no\nnonsense\n", "certs/csr.conf.template:3", []string{"refresh-certs server", "refresh-certs --dry-run"}},
		{"certs/csr.conf.template", "[ req ]\nprompt = no\nnonsense\n", "certs/csr.conf.template:3", services},
		{"credentials/known_tokens.csv", "0123456789abcdef,admin,admin\nshort,a,b\n", "credentials/known_tokens.csv:2", services},
		{"credentials/client.config", "apiVersion: v1\nkind: Config\nclusters: 7\n", "credentials/client.config:3", append(services, "config")},
		{"args/certs.d/docker.io/hosts.toml", "server = \"https://a\"\n[host.\"http://b\"\n", "args/certs.d/docker.io/hosts.toml:2", services},
		{"args/certs.d/docker.io/hosts.toml", "[host.\"http://b\"]\n  capabilties = [\"pull\"]\n", "args/certs.d/docker.io/hosts.toml:2", services},
		{"args/certs.d/docker.io/hosts.toml", "[host.\"http://b\"]\n\n  capabilities = [\"pul\"]\n", "args/certs.d/docker.io/hosts.toml:3", services},
		{"args/certs.d/docker.io/hosts.toml", "[host.\"ftp://b\"]\n", "args/certs.d/docker.io/hosts.toml:1", services},
		{"args/containerd.toml", "version = 3\nroot = /var\n", "args/containerd.toml:2", services},
		{"args/kubelet-config.yaml", "kind: KubeletConfiguration\nmaxPods: 5: 6\n", "args/kubelet-config.yaml:2", services},
		{"args/flannel-network-mgr-config", "{\n  \"Network\" \"10.1.0.0/16\"\n}\n", "args/flannel-network-mgr-config:2", services},
		{"args/cni-network/mk.conflist.in", "{\n  \"subnet\": \"{{.PodCIDR}\"\n}\n", "args/cni-network/mk.conflist.in:2", services},
		{"var/lock/no-kubelite", "", "var/lock/no-kubelite: a control-plane node cannot be without kubelite", services},
	}
}

// TestEditedFiles: a fault in a file that a person edited is named with its
// line by every command that reads it, and nothing is changed by any of them.
func TestEditedFiles(t *testing.T) {
	t.Parallel()
	for _, e := range editedFiles() {
		t.Run(e.line, func(t *testing.T) {
			t.Parallel()
			dir := fakeNode(t)
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, e.file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, e.file), []byte(e.text), 0o600); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			for _, words := range e.commands {
				cmd := exec.CommandContext(t.Context(), "mk", append([]string{"--root", dir, "--yes"}, strings.Fields(words)...)...)
				cmd.Env = append(os.Environ(), "MK_ACCEPT_OTHER_KUBERNETES=true") // it is about the files alone
				out, err := cmd.CombinedOutput()
				code := cmd.ProcessState.ExitCode()
				if code == 50 && os.Geteuid() != 0 {
					continue // who may not change anything is told so first
				}
				if err == nil || code != 2 || !strings.Contains(string(out), e.line) {
					t.Errorf("mk %s: exit %d, wants 2 and %s:\n%s", words, code, e.line, out)
				}
				if after := tree(t, dir); after != before {
					t.Fatalf("mk %s changed something:\n%s\nbefore\n%s", words, after, before)
				}
			}
		})
	}
}

// TestEditedTokens: the plugin that keeps tokens names the line of its file that
// a person wrote wrong, and leaves it.
func TestEditedTokens(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("only root starts a plugin: that is told to everybody else first")
		return
	}
	program, err := exec.LookPath("mk")
	if err != nil {
		t.Fatal(err)
	}
	dir := fakeNode(t)
	for up := dir; up != os.TempDir() && up != "/"; up = filepath.Dir(up) { // plugins run as users of their own
		if err := os.Chmod(up, 0o711); err != nil { //nolint:gosec // a test's folder
			t.Fatal(err)
		}
	}
	run := func(words ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), "mk", append([]string{"--root", dir, "--yes"}, words...)...)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, words := range [][]string{{"plugin", "install", filepath.Join(filepath.Dir(filepath.Dir(program)), "plugins", "tokens-file")}, {"plugin", "use", "tokens/file"}, {"token", "list"}} {
		if out, code := run(words...); code != 0 {
			t.Fatalf("mk %s: exit %d\n%s", words, code, out)
		}
	}
	state := filepath.Join(dir, "plugins/state/tokens/file")
	info, err := os.Stat(state)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(state, "cluster-tokens.txt")
	err = os.WriteFile(file, []byte("# mine\n0123456789abcdef0123456789abcdef\n0123456789abcdef|tomorrow\n"), 0o600)
	if owner, ok := info.Sys().(*syscall.Stat_t); err == nil && ok { // an editor keeps whose it is
		err = os.Chown(file, int(owner.Uid), int(owner.Gid))
	}
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	for _, words := range [][]string{{"token", "list"}, {"token", "list", "--expired", "-o", "json"}} {
		out, code := run(words...)
		if code != 2 || !strings.Contains(out, "cluster-tokens.txt:3") || strings.Contains(out, "0123456789abcdef") {
			t.Errorf("mk %s: exit %d, wants 2 and the line, without what stands in it:\n%s", words, code, out)
		}
	}
	if after := tree(t, dir); after != before {
		t.Errorf("something was changed:\n%s\nbefore\n%s", after, before)
	}
}

// fakeNode is a folder that looks like a node's, of which nothing runs.
func fakeNode(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	root, err := node.Create(dir, node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() //nolint:errcheck // a test's folder
	rec := node.NewRecord("a", time.Now())
	rec.Address, rec.ClusterID, rec.Stopped = "192.0.2.1", node.NewID(), true
	err = root.SaveRecord(rec)
	for _, f := range []string{"args/kubelet", "args/etcd"} {
		err = errors.Join(err, root.MkdirAll(filepath.Dir(f), node.Perm{Mode: 0o750, UID: -1, GID: -1}), root.WriteFile(f, []byte("--v=1\n"), root.Secret()))
	}
	if err := errors.Join(err, root.MkdirAll("plugins", node.Perm{Mode: 0o711, UID: -1, GID: -1})); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tree is everything in a folder: names, modes, contents.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum := ""
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf("%x", sha256.Sum256(data))
		}
		name, err := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %s %s\n", info.Mode(), name, sum)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
