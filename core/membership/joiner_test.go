package membership

import (
	"errors"
	"testing"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

// A joiner's record is found by the name that it says and by its operation
// alone; a name that is another's gives it nothing of that one's.
func TestWhoseCertificatesAJoinerAsksFor(t *testing.T) {
	t.Parallel()
	n, _ := serving(t)
	store, err := n.Store()
	if err != nil {
		t.Fatal(err)
	}
	until := at.Add(time.Hour)
	for _, m := range []*cluster.Member{
		{Name: "w1", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o1", Key: "k1", Server: "n1", Until: until},
		{Name: "w2", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o2", Key: "k2", Server: "n1", Until: until},
		{Name: "late", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o3", Key: "k3", Server: "n1", Until: at},
		{Name: "n1", Role: plugin.RoleControlPlane, State: cluster.Joined, Operation: "o4", Key: "k4"},
	} {
		if err := store.Put(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		key, operation, node string
		want                 string // empty: refused
	}{
		"its own name":              {"k1", "o1", "w1", "w1"},
		"no name":                   {"k1", "o1", "", "w1"},
		"no name that a node has":   {"k1", "o1", "../w1", "w1"},
		"another joiner's":          {"k1", "o1", "w2", ""},
		"another's, and its join":   {"k1", "o2", "w2", ""},
		"nobody's":                  {"k1", "o1", "w9", ""},
		"a member's":                {"k4", "o4", "n1", ""},
		"of a join that has ended":  {"k3", "o3", "late", ""},
		"its own, without its key":  {"", "o1", "w1", ""},
		"its own, with another key": {"k2", "o1", "w1", ""},
	} {
		m, err := n.signRecord(t.Context(), store, Caller{Key: c.key}, peer.Sign{Operation: c.operation, Node: c.node})
		if c.want == "" {
			if !errors.Is(err, JoinEnded) {
				t.Errorf("%s: %+v, %v", name, m, err)
			}
			continue
		}
		if err != nil || m.Name != c.want {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
