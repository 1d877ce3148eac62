//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTokens starts a node whose kubeconfigs hold tokens, and beside it, on
// the same machine, one whose kubeconfigs hold certificates: each has its own
// root folder and namespace, and neither sees the other.
func TestTokens(t *testing.T) {
	a, b := newMachine(t, 5, true), newMachine(t, 6, true)
	a.asNew()
	a.promised("start", "--name", "node-t", "--auth", "token", "--pod-cidr", "10.244.0.0/16", "--service-cidr", "10.96.0.0/12")
	// The other with keys of RSA, from a shell that keeps everything to itself.
	b.run("mk", "settings", "set", "key-type", "rsa-2048")
	b.run("sh", "-c", "umask 077; exec "+filepath.Join(b.Out, "bin/mk")+" start --name node-u")
	judge(t, b)
	for m, name := range map[*machine]string{a: "node/node-t", b: "node/node-u"} {
		if out := strings.TrimSpace(m.kubectl("get", "nodes", "-o", "name")); out != name {
			t.Errorf("nodes of %s: %q", name, out)
		}
	}
	authenticates(t, a, "token: ", "client-certificate")
	a.promised("start", "--auth", "x509")
	authenticates(t, a, "client-certificate", "token: ")
	if _, err := os.Stat(filepath.Join(a.Root, "credentials/known_tokens.csv")); err == nil {
		t.Error("the tokens are left")
	}
	a.promised("start", "--auth", "token")
	authenticates(t, a, "token: ", "client-certificate")
	a.refused(2, "mk", "start", "--name", "another")
	t.Run("commands do what their dry runs show", func(t *testing.T) { promises(t, a) })
	t.Run("of ten thousand claims of a token one wins", func(t *testing.T) { manyClaim(t, b) })
	// One node stops, the other goes on.
	a.promised("stop")
	nothingLeft(t, a)
	b.kubectl("get", "nodes")
	b.run("mk", "status")
	stopsByMarker(t, b)
	a.promised("start")
	// Somebody's containers came meanwhile: their packets go on passing.
	a.run("ip", "link", "add", "docker0", "type", "bridge")
	a.run("ip", "link", "set", "docker0", "up")
	a.promised("uninstall")
	if passes := a.run("cat", "/proc/sys/net/ipv4/ip_forward"); passes != "1\n" {
		t.Errorf("packets of others pass: %s", passes)
	}
}

// namesInOtherRanges resolves a name by the cluster's DNS, whose address is in
// the range that was asked for, and so is what it answers.
func namesInOtherRanges(t *testing.T, m *machine) {
	t.Helper()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return m.dial(ctx, "tcp", "10.96.0.10:53")
	}}
	m.eventually(30*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		found, err := r.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
		if err == nil && !slices.Equal(found, []string{"10.96.0.1"}) {
			err = fmt.Errorf("the API server's service is at %v", found)
		}
		return err
	})
	if pods := m.kubectl("get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns", "-o", "jsonpath={.items[0].status.podIP}"); !strings.HasPrefix(pods, "10.244.") {
		t.Errorf("a pod is at %s", pods)
	}
}

// authenticates looks how the five kubeconfigs authenticate, and asks the API
// server whom it takes us for.
func authenticates(t *testing.T, m *machine, with, without string) {
	t.Helper()
	for _, name := range []string{"client", "controller", "scheduler", "kubelet", "proxy"} {
		data, err := os.ReadFile(filepath.Join(m.Root, "credentials", name+".config"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), with) || strings.Contains(string(data), without) {
			t.Errorf("%s.config does not hold a %s", name, with)
		}
	}
	if who := m.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.groups}"); !strings.Contains(who, "system:masters") {
		t.Errorf("the API server takes us for %q", who)
	}
	if ready := m.kubectl("get", "nodes", "--no-headers"); !strings.Contains(ready, " Ready ") {
		t.Errorf("with %s: %s", with, ready)
	}
}

// promises compares, command by command, what a dry run shows with what the
// command then does.
func promises(t *testing.T, m *machine) {
	t.Helper()
	for _, line := range []string{
		"start", "enable dns", "enable dns", "args set kubelet max-pods=77", "refresh-certs", "plugin use clustering/approve", "disable dns",
	} {
		m.promised(strings.Fields(line)...)
		if line == "enable dns" {
			namesInOtherRanges(t, m)
		}
	}
}
