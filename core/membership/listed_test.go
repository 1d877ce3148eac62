package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

// joiningAs is the record of a join of w1 that ends in an hour.
func joiningAs(operation, key string) *cluster.Member {
	return &cluster.Member{Name: "w1", Role: plugin.RoleWorker, State: cluster.Joining, Operation: operation, Key: key,
		Server: "n1", Address: "10.0.0.2", Until: at.Add(time.Hour)}
}

// onList reports whether w1 is refused, and whether it has a record.
func onList(t *testing.T, n Node, store cluster.Members) (refused, recorded bool) {
	t.Helper()
	refused, err := n.Barred(t.Context(), store, "w1")
	m, got := store.Get(t.Context(), "w1")
	if err := errors.Join(err, got); err != nil {
		t.Fatal(err)
	}
	return refused, m != nil
}

// What a name was refused is over while a node of it joins or is a member, and
// only then, whatever else happens meanwhile. The joiner has no rights, either,
// when its join is over.
func TestWhoseNameIsRefused(t *testing.T) {
	t.Parallel()
	const list, record = "removed-nodes", "node.w1"
	release := func(ctx context.Context, n Node) error {
		_, err := n.ReleaseJoin(ctx, Caller{Key: "k1"}, peer.Ref{Operation: "o1"})
		return err
	}
	forget := func(ctx context.Context, n Node) error { return n.ForgetNode(ctx, "w1") }
	again := func(store cluster.Members, operation string) func(context.Context, Node) error {
		return func(ctx context.Context, n Node) error {
			m, err := store.Get(ctx, "w1")
			if err != nil {
				return err
			}
			m.Operation, m.Until = operation, m.Until.Add(time.Hour)
			return n.noteJoiner(ctx, store, m, true)
		}
	}
	n, api := serving(t)
	other := servingOn(t, api)
	n.Plugins = plugins{tokens: &given{}}
	other.Plugins = n.Plugins
	store, err := n.Store()
	if err != nil {
		t.Fatal(err)
	}
	begin := func(ctx context.Context, n Node) error {
		return n.noteJoiner(ctx, store, joiningAs("o1", "k1"), false)
	}
	for _, c := range []struct {
		what       string
		do         func(context.Context, Node) error
		verb, name string                            // in do, before this request,
		then       func(context.Context, Node) error // another node does this
		refused    bool
		recorded   bool
		changed    bool // do says that it was
	}{
		{"begun", begin, "", "", nil, false, true, false},
		{"taken back", release, "", "", nil, true, false, false},
		{"begun, taken back before it is let in", begin, http.MethodPut, list, release, true, false, true},
		{"begun, removed before it is let in", begin, http.MethodPut, list, forget, true, false, true},
		{"begun again", begin, "", "", nil, false, true, false},
		{"taken back, asked again before it is refused", release, http.MethodPut, list, again(store, "o1"), false, true, true},
		{"taken back, asked again before the record goes", release, http.MethodDelete, record, again(store, "o1"), false, true, true},
		{"removed, asked again before the record goes", forget, http.MethodDelete, record, again(store, "o1"), true, false, false},
		{"begun a third time", begin, "", "", nil, false, true, false},
		{"removed, begun anew before it is refused", forget, http.MethodPut, list, again(store, "o3"), false, true, true},
		{"removed, begun anew before the record goes", forget, http.MethodDelete, record, again(store, "o2"), false, true, true},
	} {
		var done atomic.Bool
		api.before = func(verb, name string) {
			if c.then == nil || verb != c.verb || name != c.name || done.Swap(true) {
				return
			}
			if err := c.then(t.Context(), other); err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
		}
		err := c.do(t.Context(), n)
		refused, recorded := onList(t, n, store)
		if refused != c.refused || recorded != c.recorded || errors.Is(err, cluster.ErrChanged) != c.changed || err != nil && !c.changed {
			t.Errorf("%s: refused %t, recorded %t, %v", c.what, refused, recorded, err)
		}
		if rights := slices.Contains(api.names("/api/v1/namespaces/mk-system/configmaps"), "report.w1"); rights != recorded {
			t.Errorf("%s: rights %t, record %t", c.what, rights, recorded)
		}
	}
}

// Whatever two nodes do at once with a joiner: when all of it has ended, its name
// is refused where it has no record, and only there.
func TestNamesFollowRecords(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0)) //nolint:gosec // it chooses what a test does
	n, api := serving(t)
	nodes := []Node{n, servingOn(t, api)}
	for i := range nodes {
		nodes[i].Plugins = plugins{tokens: &given{}}
	}
	store, err := n.Store()
	if err != nil {
		t.Fatal(err)
	}
	begin := func(n Node) {
		m, err := store.Get(t.Context(), "w1")
		if err != nil {
			t.Error(err)
			return
		}
		again := m != nil
		if !again {
			m = joiningAs(fmt.Sprintf("o%d", time.Now().UnixNano()), "k1")
		}
		m.Until = m.Until.Add(time.Second)
		_ = n.noteJoiner(t.Context(), store, m, again) // it may come too late
	}
	release := func(n Node) {
		if m, err := store.Get(t.Context(), "w1"); err == nil && m != nil {
			_, _ = n.ReleaseJoin(t.Context(), Caller{Key: "k1"}, peer.Ref{Operation: m.Operation})
		}
	}
	remove := func(n Node) { _ = n.ForgetNode(t.Context(), "w1") }
	note := func(Node) {
		if m, err := store.Get(t.Context(), "w1"); err == nil && m != nil {
			noteKey(m, fmt.Sprint(time.Now().UnixNano()))
			_ = store.Put(t.Context(), m)
		}
	}
	begin(n)
	release(n) // its name is on the list from here on
	for round := range 100 {
		var all sync.WaitGroup
		var does []string
		for range 4 {
			where, what := random.IntN(2), random.IntN(4)
			does = append(does, fmt.Sprintf("%s on %d", []string{"begin", "release", "remove", "note"}[what], where))
			all.Go(func() { []func(Node){begin, release, remove, note}[what](nodes[where]) })
		}
		all.Wait()
		if refused, recorded := onList(t, n, store); refused == recorded {
			t.Fatalf("round %d, %v at once: refused %t, recorded %t", round, does, refused, recorded)
		}
	}
}
