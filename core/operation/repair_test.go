package operation

import (
	"errors"
	"os"
	"testing"

	"mk8s.io/mk/core/node"
)

// TestRepair breaks what a doctor can mend, and wants it mended once and the
// rest left alone.
func TestRepair(t *testing.T) {
	t.Parallel()
	n := startedNode(t)
	all := []string{"certs", "permissions", "services"}
	if err := errors.Join(n.refreshServices(t.Context()), n.services.Start(t.Context(), n.serviceNames()...)); err != nil {
		t.Fatal(err)
	}
	if r, err := n.FindRepair(t.Context(), all); err != nil || !r.Empty() {
		t.Fatalf("a node that is well: %+v, %v", r, err)
	}
	other, err := os.ReadFile(n.Root.Path("certs/client.crt"))
	if errors.Is(err, os.ErrNotExist) {
		other, err = os.ReadFile(n.Root.Path("certs/kubelet.crt"))
	}
	err = errors.Join(err,
		n.Root.WriteFile("certs/server.crt", other, n.Root.Public()), // of another key
		os.Remove(n.Root.Path("certs/front-proxy-client.crt")),
		os.Chmod(n.Root.Path("certs/serviceaccount.key"), 0o644), //nolint:gosec // what is repaired
		os.Remove(n.Root.Locks("lite.lock")),
		n.Root.WriteFile("var/lock/stopped.lock", nil, node.Perm{Mode: 0o644, UID: -1, GID: -1}),
		n.services.Stop(t.Context(), "etcd"),
	)
	if err != nil {
		t.Fatal(err)
	}
	r, err := n.FindRepair(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := n.DryRepair(t.Context(), r)
	if err != nil || len(plan.Changes) == 0 || len(r.Services) != 1 || r.Services[0] != "etcd" {
		t.Fatalf("%+v, services %v, %v", plan, r.Services, err)
	}
	if err := n.Repair(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if r, err := n.FindRepair(t.Context(), all); err != nil || !r.Empty() {
		t.Errorf("after the repair: %+v, %v", r, err)
	}
	if _, err := os.Lstat(n.Root.Locks("stopped.lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the marker of a stopped node: %v", err)
	}
}
