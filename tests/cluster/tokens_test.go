//go:build cluster

package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokens starts a node whose kubeconfigs hold tokens, and beside it, on
// the same machine, one whose kubeconfigs hold certificates: each has its own
// root folder and namespace, and neither sees the other.
func TestTokens(t *testing.T) {
	a, b := newMachine(t, 5, true), newMachine(t, 6, true)
	a.run("mk", "start", "--name", "node-t", "--auth", "token")
	b.run("mk", "start", "--name", "node-u")
	for m, name := range map[*machine]string{a: "node/node-t", b: "node/node-u"} {
		if out := strings.TrimSpace(m.kubectl("get", "nodes", "-o", "name")); out != name {
			t.Errorf("nodes of %s: %q", name, out)
		}
	}
	for _, name := range []string{"client", "controller", "scheduler", "kubelet", "proxy"} {
		data, err := os.ReadFile(filepath.Join(a.Root, "credentials", name+".config"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), "token: ") || strings.Contains(string(data), "client-certificate") {
			t.Errorf("%s.config holds no token", name)
		}
	}
	if who := a.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); who != "admin" {
		t.Errorf("the API server takes us for %q", who)
	}
	// One node stops, the other goes on.
	a.run("mk", "stop")
	nothingLeft(t, a)
	b.kubectl("get", "nodes")
	b.run("mk", "status")
}
