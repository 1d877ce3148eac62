//go:build realapi

package kube

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// as is a client with a user's rights.
func as(t *testing.T, user string, groups ...string) *Client {
	t.Helper()
	file := filepath.Join(filepath.Dir(os.Getenv(certificateEnv)), "admin.config")
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	c, err := newClient(config, Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestRealAPIServersAreSeenByKubeProxy: the rights that a worker's proxy has
// are enough, and a kubelet's are not; so it uses the former.
func TestRealAPIServersAreSeenByKubeProxy(t *testing.T) {
	ctx := realContext(t)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var seen []netip.AddrPort
	err := as(t, "system:kube-proxy").WatchAPIServers(watching, func(list []netip.AddrPort) {
		if seen = list; len(list) > 0 {
			stop()
		}
	}, func(err error) { t.Log(err) })
	if ctx.Err() != nil || len(seen) != 1 || seen[0].Addr() != netip.MustParseAddr(advertised) {
		t.Fatalf("seen %v, %v", seen, err)
	}
	if err := as(t, "system:kube-proxy").Ready(ctx); err != nil {
		t.Errorf("kube-proxy asks for readiness: %v", err)
	}
	refused, stop := context.WithCancel(ctx)
	defer stop()
	var trouble error
	err = as(t, "system:node:waits", "system:nodes").WatchAPIServers(refused, func([]netip.AddrPort) { stop() },
		func(err error) { trouble = err; stop() })
	if trouble == nil || !strings.Contains(trouble.Error(), "forbidden") {
		t.Errorf("a kubelet may read endpoints (%v, %v): the proxy could use its rights", trouble, err)
	}
}
