package membership

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// plugins are those of a node that serves joins.
type plugins struct {
	operation.Plugins

	tokens *given
	certs  certs.Plugin
}

func (p plugins) Certs(context.Context, string) (certs.Plugin, plugin.Identity, error) {
	return p.certs, plugin.Identity{Kind: plugin.KindCerts, Name: "local"}, nil
}

func (p plugins) Tokens(context.Context) (tokens.Plugin, plugin.Identity, error) {
	return p.tokens, plugin.Identity{Kind: plugin.KindTokens, Name: "file"}, nil
}

// given is a tokens plugin that notes what is given back.
type given struct {
	tokens.Plugin

	released, revoked []string
	gone              []string // tokens that it does not know any more
	spent             bool
}

func (g *given) Release(_ context.Context, _ plugin.Call, reservation string) error {
	if g.spent {
		return plugin.Errorf(plugin.NotPossible, "the token was spent")
	}
	g.released = append(g.released, reservation)
	return nil
}

func (g *given) Commit(context.Context, plugin.Call, string) error {
	g.spent = true
	return nil
}

func (g *given) Revoke(_ context.Context, _ plugin.Call, id string) error {
	if slices.Contains(g.gone, id) {
		return plugin.Errorf(plugin.TokenUnknown, "there is no token %s", id)
	}
	g.revoked = append(g.revoked, id)
	return nil
}

// A guest of MicroK8s that does not come to its end leaves nothing when its
// lease ends: neither its record, nor a node that its kubelet made, nor a token
// with which certificates can be asked for; the token that it joined with is
// as good as before.
func TestAGuestIsTakenBackWithItsLease(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tokens *given
		server string
		want   given
	}{
		"nothing was signed":      {&given{}, "n1", given{released: []string{"r"}, revoked: []string{"k", "p"}}},
		"one certificate":         {&given{gone: []string{"k"}}, "n1", given{released: []string{"r"}, revoked: []string{"p"}}},
		"killed while it commits": {&given{spent: true}, "n1", given{revoked: []string{"k", "p"}}},
		"another node serves it":  {&given{}, "n2", given{}},
	} {
		n, api := serving(t)
		n.Plugins = plugins{tokens: c.tokens}
		store, err := n.Store()
		if err != nil {
			t.Fatal(err)
		}
		guest := &cluster.Member{Name: "w1", Role: plugin.RoleWorker, Address: "10.0.0.2", State: cluster.Joining, Operation: "o", Key: "microk8s:w1@10.0.0.2",
			Reservation: "r", Server: c.server, Until: at.Add(time.Second), Guest: &cluster.Guest{Tokens: []string{"k", "p"}}}
		nodes := 0
		if name != "nothing was signed" { // then its kubelet may have made a node
			api.put("/api/v1/nodes/w1")
			nodes++
		}
		for _, m := range []*cluster.Member{guest, {Name: "n1", Role: plugin.RoleControlPlane, State: cluster.Joined}} {
			if err := store.Put(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if next, err := n.ReapJoins(t.Context()); err != nil || !next.Equal(guest.Until) || len(api.names("/api/v1/nodes")) != nodes {
			t.Errorf("%s: before its end: next %s, %v", name, next, err)
		}
		n.Now = func() time.Time { return at.Add(2 * time.Second) }
		if _, err := n.ReapJoins(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		all, err := store.List(t.Context())
		if err != nil || len(all) != 1 || all[0].Name != "n1" || len(api.names("/api/v1/nodes")) != 0 {
			t.Errorf("%s: %d records, nodes %v, %v", name, len(all), api.names("/api/v1/nodes"), err)
		}
		if !slices.Equal(c.tokens.released, c.want.released) || !slices.Equal(c.tokens.revoked, c.want.revoked) {
			t.Errorf("%s: released %v, revoked %v", name, c.tokens.released, c.tokens.revoked)
		}
	}
}

// A join that is given up, and of which the server has heard nothing, says
// nothing of another with the same key: the key stays good for that one.
func TestWhatIsHeldBehindARelease(t *testing.T) {
	t.Parallel()
	n, _ := serving(t)
	n.Plugins = plugins{tokens: &given{}}
	store, err := n.Store()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*cluster.Member{
		{Name: "w1", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o1", Key: "k", Server: "n1", Until: at.Add(time.Hour)},
		{Name: "w2", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o2", Key: "other", Server: "n1", Until: at.Add(time.Hour)},
	} {
		if err := store.Put(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		operation string
		held      bool
		left      int
	}{{"unheard", true, 2}, {"o1", false, 1}, {"o1", false, 1}} {
		out, err := n.ReleaseJoin(t.Context(), Caller{Key: "k"}, peer.Ref{Operation: c.operation})
		all, listed := store.List(t.Context())
		if err != nil || listed != nil || out.Held != c.held || len(all) != c.left {
			t.Errorf("%s: %+v, %d records left, %v", c.operation, out, len(all), errors.Join(err, listed))
		}
	}
}

// Certificates of a worker that mk does not run are not mk's to renew.
func TestWhoseCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	const operation = "01234567-89ab-cdef-0123-456789abcdef"
	worker := func() *cluster.Member {
		return &cluster.Member{Name: "w1", ID: "i", State: cluster.Joined, Role: plugin.RoleWorker, Keys: []string{"k"}}
	}
	for name, c := range map[string]struct {
		change func(m *cluster.Member)
		key    string
		reason plugin.Reason
	}{
		"the worker":               {func(*cluster.Member) {}, "k", ""},
		"another machine":          {func(*cluster.Member) {}, "x", NotPermitted},
		"no key":                   {func(m *cluster.Member) { m.Keys = append(m.Keys, "") }, "", NotPermitted},
		"a control-plane node":     {func(m *cluster.Member) { m.Role = plugin.RoleControlPlane }, "k", NotPermitted},
		"one that joins":           {func(m *cluster.Member) { m.State = cluster.Joining }, "k", NotPermitted},
		"one of the same name":     {func(m *cluster.Member) { m.ID = "j" }, "k", NotPermitted},
		"a guest":                  {func(m *cluster.Member) { m.Guest = &cluster.Guest{} }, "k", plugin.NotPossible},
		"a guest's name, no guest": {func(m *cluster.Member) { m.Guest = &cluster.Guest{} }, "x", NotPermitted},
	} {
		m := worker()
		c.change(m)
		err := renewable(m, Caller{Key: c.key}, peer.Renew{NodeID: "i", Operation: operation})
		if (err == nil) != (c.reason == "") || err != nil && !errors.Is(err, c.reason) {
			t.Errorf("%s: %v, want %q", name, err, c.reason)
		}
	}
	if err := renewable(nil, Caller{Key: "k"}, peer.Renew{Operation: operation}); !errors.Is(err, NotPermitted) {
		t.Errorf("a node that is gone: %v", err)
	}
}
