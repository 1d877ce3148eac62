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
	a.promised("start", "--name", "node-t", "--auth", "token")
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
	t.Run("commands do what their dry runs show", func(t *testing.T) { promises(t, a) })
	// One node stops, the other goes on.
	a.promised("stop")
	nothingLeft(t, a)
	b.kubectl("get", "nodes")
	b.run("mk", "status")
	stopsByMarker(t, b)
	a.promised("start")
	a.promised("uninstall")
}

// promises compares, command by command, what a dry run shows with what the
// command then does.
func promises(t *testing.T, m *machine) {
	t.Helper()
	for _, line := range []string{
		"start", "enable dns", "enable dns", "args set kubelet max-pods=77", "refresh-certs", "plugin use clustering/approve", "disable dns",
	} {
		m.promised(strings.Fields(line)...)
	}
}
