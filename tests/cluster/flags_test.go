//go:build cluster

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// flags tries what no other test asks for.
func flags(t *testing.T, m *machine) {
	t.Run("config", func(t *testing.T) { mergesConfig(t, m) })
	t.Run("inspect --no-logs", func(t *testing.T) {
		for _, words := range [][]string{nil, {"--no-logs"}} {
			report := filepath.Join(passable(t), "report.tar.gz")
			m.run("mk", append([]string{"inspect", "--to", report}, words...)...)
			if list := m.run("tar", "-tzf", report); strings.Contains(list, "logs/") != (words == nil) {
				t.Errorf("mk inspect %v:\n%s", words, list)
			}
		}
	})
	t.Run("doctor --fix", func(t *testing.T) {
		key := filepath.Join(m.Root, "certs/server.key")
		mode := func() os.FileMode {
			info, err := os.Stat(key)
			if err != nil {
				t.Fatal(err)
			}
			return info.Mode().Perm()
		}
		own := mode()
		if err := os.Chmod(key, 0o644); err != nil { //nolint:gosec // that is the fault
			t.Fatal(err)
		}
		m.refused(6, "mk", "doctor", "--fix", "permissions")
		if now := mode(); now != 0o644 {
			t.Errorf("nobody has agreed, and the key has the mode %o", now)
		}
		m.run("mk", "doctor", "--fix", "--yes", "permissions")
		if now := mode(); now != own {
			t.Errorf("the key has the mode %o, before it had %o", now, own)
		}
		m.run("mk", "doctor", "permissions", "--check")
	})
	t.Run("node set", func(t *testing.T) {
		marks := func() string {
			return m.kubectl("get", "node", "node-o", "-o", `jsonpath={.metadata.labels.tier} {.spec.taints[?(@.key=="edge")].effect}`)
		}
		m.run("mk", "node", "set", "node-o", "--label", "tier=edge", "--taint", "edge=yes:PreferNoSchedule")
		if now := marks(); now != "edge PreferNoSchedule" {
			t.Errorf("a label and a taint: %q", now)
		}
		m.run("mk", "node", "set", "node-o", "--label", "tier-", "--taint", "edge-")
		if now := marks(); now != " " {
			t.Errorf("neither any more: %q", now)
		}
	})
}

const somebodys = `apiVersion: v1
kind: Config
clusters: [{name: other, cluster: {server: "https://192.0.2.1:6443"}}]
users: [{name: other, user: {token: hush}}]
contexts: [{name: other, context: {cluster: other, user: other}}]
current-context: other
`

// mergesConfig adds the node's kubeconfig to a person's own: theirs stays, also
// as it was in a file beside it.
func mergesConfig(t *testing.T, m *machine) {
	for words, server := range map[string]string{"config": m.Address, "config --use-loopback": "127.0.0.1"} {
		if out := m.run("mk", strings.Fields(words)...); !strings.Contains(out, "server: https://"+server+":16443") {
			t.Errorf("mk %s:\n%s", words, out)
		}
	}
	home := passable(t)
	file := filepath.Join(home, ".kube/config")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(somebodys), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		m.run("env", "HOME="+home, filepath.Join(m.Out, "bin/mk"), "--root", m.Root, "config", "--merge")
	}
	kept, _ := filepath.Glob(file + ".*")
	if len(kept) != 1 {
		t.Fatalf("the old file is kept as %v", kept)
	}
	if was, err := os.ReadFile(kept[0]); err != nil || string(was) != somebodys {
		t.Errorf("the old file is kept as %q (%v)", was, err)
	}
	contexts := strings.Fields(m.kubectl("--kubeconfig", file, "config", "get-contexts", "-o", "name"))
	if len(contexts) != 2 {
		t.Fatalf("contexts %v", contexts)
	}
	for _, name := range contexts {
		if name != "other" {
			m.kubectl("--kubeconfig", file, "--context", name, "get", "nodes")
		}
	}
}

// TestHostGateway has packets between pods of two nodes go by routes, and not
// through a tunnel.
func TestHostGateway(t *testing.T) {
	m := network(t, 9, 2)
	m[0].run("mk", "start", "--name", "n1", "--cni", "host-gw")
	m[1].run("mk", "join", m[0].invite("--worker"), "--worker", "--name", "n2")
	for _, x := range m {
		x.run("mk", "images", "import", filepath.Join(x.Out, "testimages/tools.tar"))
		if _, err := x.try(10*time.Second, "ip", "link", "show", "flannel.1"); err == nil {
			t.Errorf("%s has a tunnel", x.Name)
		}
	}
	m[0].apply(everywhere)
	m[0].kubectl("rollout", "status", "daemonset/each", "--timeout=120s")
	for i, x := range m {
		other := m[1-i]
		pod := m[0].kubectl("get", "pods", "-l", "app=each", "--field-selector", fmt.Sprintf("spec.nodeName=n%d", 2-i), "-o", "jsonpath={.items[0].status.podIP}")
		if route := x.run("ip", "route", "get", pod); !strings.Contains(route, "via "+other.Address) {
			t.Errorf("from %s to a pod of %s: %s", x.Name, other.Name, route)
		}
		x.eventually(30*time.Second, func() error {
			conn, err := x.dial(t.Context(), "tcp", pod+":8080")
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
}
