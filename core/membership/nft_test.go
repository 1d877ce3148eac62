package membership

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
)

func TestNftKeepsStrangersOut(t *testing.T) {
	t.Parallel()
	network := node.DefaultNetwork()
	f := &Firewall{
		Ports: defaults.Ports(node.ControlPlane, network, 25000), PodCIDR: network.PodCIDR + ",fd01::/64",
		Nodes:        []netip.Addr{netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")},
		ControlPlane: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
	}
	want, err := os.ReadFile("testdata/control-plane.nft")
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Nft(); got != string(want) {
		t.Errorf("the ruleset has become\n%s", got)
	}
	f.Unknown = "the cluster cannot be asked:\nno route"
	if got := f.Nft(); strings.Contains(got, "drop\n") || strings.Contains(got, "@") || strings.Contains(got, "\nno route") {
		t.Errorf("where nodes are not known\n%s", got)
	}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	m, err := ParseMarks("n", []string{"tier=edge", "old-", "a="}, []string{"edge=yes:NoSchedule", "gone-", "gone:NoExecute-"})
	if err != nil || m.Empty() || m.Labels["tier"] != "edge" || m.DropLabels[0] != "old" || m.Taints[0] != (kube.Taint{Key: "edge", Value: "yes", Effect: "NoSchedule"}) ||
		m.DropTaints[0].Effect != "" || m.DropTaints[1] != (kube.Taint{Key: "gone", Effect: "NoExecute"}) {
		t.Errorf("%+v %v", m, err)
	}
	for _, label := range []string{"", "x", "=y", "-"} {
		if m, err := ParseMarks("n", []string{label}, nil); err == nil {
			t.Errorf("label %q: %+v", label, m)
		}
	}
	for _, taint := range []string{"", "x", "-", ":NoSchedule-", "a=b:NoSchedule-"} {
		if m, err := ParseMarks("n", nil, []string{taint}); err == nil {
			t.Errorf("taint %q: %+v", taint, m)
		}
	}
	if m, _ := ParseMarks("n", nil, nil); !m.Empty() {
		t.Error("nothing is something")
	}
}

func FuzzMarks(f *testing.F) {
	f.Add("tier=edge", "edge=yes:NoSchedule-")
	f.Fuzz(func(t *testing.T, label, taint string) {
		if m, err := ParseMarks("n", []string{label}, []string{taint}); err == nil && m.Empty() {
			t.Fatalf("%q %q: taken, and nothing of it", label, taint)
		}
	})
}
