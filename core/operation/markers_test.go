package operation

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
)

// TestMarkersAsk changes marker files as a person would, and wants what they
// ask for done, put back or refused.
func TestMarkersAsk(t *testing.T) {
	t.Parallel()
	n := startedNode(t)
	if asked, err := n.Requests(); err != nil || len(asked) > 0 {
		t.Fatalf("a node that is well asks for %v, %v", asked, err)
	}
	touch := func(name string) {
		t.Helper()
		if err := n.Root.WriteFile("var/lock/"+name, nil, node.Perm{Mode: 0o644, UID: -1, GID: -1}); err != nil {
			t.Fatal(err)
		}
	}
	follow := func(stops bool) {
		t.Helper()
		if stop, err := n.FollowRequests(t.Context()); err != nil || stop != stops {
			t.Fatalf("stop %v, %v", stop, err)
		}
	}
	if err := errors.Join(n.refreshServices(t.Context()), n.services.Start(t.Context(), n.serviceNames()...)); err != nil {
		t.Fatal(err)
	}

	touch(lock.No("flanneld"))
	touch(lock.NoCertReissue)
	if err := os.Remove(n.Root.Locks(lock.Lite)); err != nil {
		t.Fatal(err)
	}
	asked, err := n.Requests()
	if err != nil || len(asked) != 3 || asked[2].Asks != "not to run flanneld" || asked[1].Next != "sudo mk restart" {
		t.Errorf("%+v, %v", asked, err)
	}
	follow(false)
	if running, err := (&serviceChanges{n}).Running(t.Context()); err != nil || running["flanneld"] || !running["kubelite"] {
		t.Errorf("running: %v, %v", running, err)
	}
	if slices.Contains(n.serviceNames(), "flanneld") || !n.Record.KeepCertificates {
		t.Errorf("the record says %+v", n.Record)
	}
	if _, err := os.Lstat(n.Root.Locks(lock.Lite)); err != nil {
		t.Error(err)
	}
	if err := n.FollowAddresses(t.Context(), []netip.Addr{netip.MustParseAddr("192.0.2.77")}); err != nil || slices.Contains(n.Record.Addresses, "192.0.2.77") {
		t.Errorf("%v, %v: certificates were to stay", n.Record.Addresses, err)
	}

	err = errors.Join(os.Remove(n.Root.Locks(lock.No("flanneld"))), os.Remove(n.Root.Locks(lock.NoCertReissue)))
	if err != nil {
		t.Fatal(err)
	}
	follow(false)
	if running, err := (&serviceChanges{n}).Running(t.Context()); err != nil || !running["flanneld"] || n.Record.KeepCertificates {
		t.Errorf("running: %v, %v", running, err)
	}

	touch(lock.Stopped)
	follow(true)
	if err := os.Remove(n.Root.Locks(lock.Stopped)); err != nil {
		t.Fatal(err)
	}

	touch(lock.No("kubelite"))
	refused(t, n)
}

// refused wants a restart refused for a marker file, with nothing begun.
func refused(t *testing.T, n *Node) {
	t.Helper()
	before, err := n.Root.Digest("var/journal")
	if err != nil {
		t.Fatal(err)
	}
	if _, wrong := errors.AsType[*node.FileError](n.Restart(t.Context())); !wrong {
		t.Error("a node without kubelite is not refused")
	}
	if faults := n.EditedFaults(); len(faults) != 1 || !strings.Contains(faults[0].Error(), "var/lock/no-kubelite: ") {
		t.Errorf("%v", faults)
	}
	if after, err := n.Root.Digest("var/journal"); err != nil || after != before {
		t.Errorf("something was begun: %v", err)
	}
}

// TestProxySettings: containerd, and nothing else, finds its proxy where the
// settings say so; what is the cluster's own is reached without one.
func TestProxySettings(t *testing.T) {
	t.Parallel()
	c := newNode(t, shippedPlugins(t))
	c.run(t)
	c.Command = "args"
	n, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	// A settings file of a plugin that a person edited: its fault has a line.
	settings := filepath.Join(c.Root, "plugins/settings/certs-local.json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(settings), 0o700), os.WriteFile(settings, []byte("{\n  \"lifetime\": \"1y\",\n  \"lifetmie\": 3\n}\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if faults := n.EditedFaults(); len(faults) != 1 || !strings.Contains(faults[0].Error(), settings+":") {
		t.Errorf("a fault in the settings of certs/local: %v", faults)
	}
	if got := n.proxyEnv(); got != nil {
		t.Errorf("without settings: %q", got)
	}
	if err := errors.Join(n.Settings.Override("proxy.https", "http://u:p@proxy:3128"), n.Settings.Override("proxy.no", "registry.corp")); err != nil {
		t.Fatal(err)
	}
	defs, err := n.Defaults().Definitions("mk")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range defs {
		env := "\n" + strings.Join(d.SecretEnv, "\n") + "\n"
		has := strings.Contains(env, "\nHTTPS_PROXY=http://u:p@proxy:3128\n") && strings.Contains(env, n.Record.Network.ServiceCIDR) && strings.Contains(env, ",registry.corp\n")
		if has != (d.Name == "containerd") || strings.Contains(env, "HTTP_PROXY=\n") || strings.Contains(strings.Join(d.Env, "\n"), "u:p") {
			t.Errorf("%s: %q", d.Name, d.SecretEnv)
		}
	}
}
