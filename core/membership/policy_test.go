package membership

import (
	"errors"
	"slices"
	"testing"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

func TestATokenGivesNoMoreThanItIsFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		asked, token string
		bound        []string
		ok           bool
	}{
		"a worker's":                  {plugin.RoleWorker, plugin.RoleWorker, nil, true},
		"less than it gives":          {plugin.RoleWorker, plugin.RoleControlPlane, nil, true},
		"a control plane's":           {plugin.RoleControlPlane, plugin.RoleControlPlane, nil, true},
		"more than a worker's":        {plugin.RoleControlPlane, plugin.RoleWorker, nil, false},
		"bound to it":                 {plugin.RoleWorker, plugin.RoleWorker, []string{"n1", "n2"}, true},
		"bound to others":             {plugin.RoleWorker, plugin.RoleWorker, []string{"n1"}, false},
		"bound to others, with power": {plugin.RoleWorker, plugin.RoleControlPlane, []string{"n1"}, false},
	} {
		err := within(peer.Begin{Name: "n2", Role: c.asked}, tokens.Reservation{Role: c.token, BoundNames: c.bound})
		if (err == nil) != c.ok || err != nil && !errors.Is(err, NotPermitted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAJoinerHasNoAddressesOfOthers(t *testing.T) {
	t.Parallel()
	others := []*cluster.Member{{Name: "n1", Address: "10.0.0.1", Addresses: []string{"192.168.0.1", "fd00::1"}}}
	b := peer.Begin{Address: "10.0.0.2", Addresses: []string{"127.0.0.1", "10.152.183.1", "10.1.3.4", "192.168.0.1", "fd00::1", "192.168.0.2", "::ffff:10.0.0.1", "fd00::2"}}
	got, err := ownAddresses(b, "10.1.0.0/16", "10.152.183.0/24", others)
	if err != nil || !slices.Equal(got, []string{"192.168.0.2", "fd00::2"}) {
		t.Errorf("%v %v", got, err)
	}
	for _, a := range []string{"10.0.0.1", "192.168.0.1", "10.152.183.1", "10.1.0.9", "127.0.0.1", "x"} {
		b.Address = a
		if got, err := ownAddresses(b, "10.1.0.0/16", "10.152.183.0/24", others); !errors.Is(err, NameTaken) {
			t.Errorf("%s: %v %v", a, got, err)
		}
	}
}

func TestAJoinerHasNoLabelsThatAreKeptFromKubelets(t *testing.T) {
	t.Parallel()
	for key, ok := range map[string]bool{
		"tier": true, "example.com/tier": true, "topology.kubernetes.io/zone": true, "node.kubernetes.io/x": true, "edge.kubelet.kubernetes.io/x": true,
		"node-role.kubernetes.io/control-plane": false, "node-restriction.kubernetes.io/x": false, "kubernetes.io/hostname": false, "x.k8s.io/y": false,
	} {
		if err := checkMarks(peer.Begin{Labels: map[string]string{key: ""}}); (err == nil) != ok {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestANameThatWentToAnotherMachineIsNotItsFormerOnes(t *testing.T) {
	t.Parallel()
	m := &cluster.Member{Name: "n5", State: cluster.Joined}
	if !speaks(m, Caller{Member: "n5", Key: "a"}) {
		t.Error("a node that certifies its own keys is refused")
	}
	for _, key := range []string{"a", "b", "b", "c"} {
		noteKey(m, key)
	}
	for key, ok := range map[string]bool{"a": false, "b": true, "c": true, "": false} {
		if speaks(m, Caller{Member: "n5", Key: key}) != ok {
			t.Errorf("key %q: %v", key, !ok)
		}
	}
	m.State = cluster.Joining
	if speaks(m, Caller{Member: "n5", Key: "c"}) {
		t.Error("a node that joins speaks as a member")
	}
}

func TestACommitIsKnownAgainByItsKey(t *testing.T) {
	t.Parallel()
	done := &cluster.Member{Name: "n2", State: cluster.Joined, Operation: "o", Key: "k"}
	all := []*cluster.Member{{Name: "n1", State: cluster.Joined}, {Name: "n3", State: cluster.Joining, Operation: "p", Key: "k"}, done}
	if committed(all, Caller{Key: "k"}, "o") != done {
		t.Error("a commit whose answer was lost is not known")
	}
	for _, c := range [][2]string{{"k", "p"}, {"other", "o"}, {"", "o"}, {"k", ""}, {"", ""}} {
		if m := committed(all, Caller{Key: c[0]}, c[1]); m != nil {
			t.Errorf("%v: %s", c, m.Name)
		}
	}
}
