package operation

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"testing"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/sdk/plugin"
)

// interrupting interrupts a first start once it knows what the node is.
type interrupting struct {
	quiet

	interrupt func()
}

func (i *interrupting) Begin(step string) {
	if step != identifying {
		i.interrupt()
	}
}

// TestOtherWordsOfAFirstStart: other words than those of an interrupted first
// start count as long as nothing was made with those, and are refused after.
func TestOtherWordsOfAFirstStart(t *testing.T) {
	t.Parallel()
	first := StartOptions{Name: "n1", Address: "10.9.8.7", PodCIDR: "10.77.0.0/16"}
	mk := shippedPlugins(t)
	for _, c := range []struct {
		name    string
		words   StartOptions
		changes int // that were asked for before the interruption
		anew    bool
		refused bool
	}{
		{name: "none", words: StartOptions{NoWait: true}},
		{name: "the same", words: first},
		{name: "others", words: StartOptions{PodCIDR: "10.78.0.0/16"}, anew: true},
		{name: "another way to authenticate", words: StartOptions{Auth: string(node.Token)}, anew: true},
		{name: "wrong ones", words: StartOptions{PodCIDR: "10.78"}, refused: true},
		{name: "none, where files hold them", changes: 1},
		{name: "others, where files hold them", words: StartOptions{PodCIDR: "10.78.0.0/16"}, changes: 1, refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			of := newNode(t, mk)
			start := func(words StartOptions) (*Node, error) {
				t.Helper()
				ctx, interrupt := context.WithCancel(t.Context())
				defer interrupt()
				o := of.options(nil)
				o.Progress = &interrupting{interrupt: interrupt}
				n, err := of.open(o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = n.Close() })
				return n, n.Start(ctx, words)
			}
			n, err := start(first)
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			open, err := n.Journal.Open()
			if err != nil || open == nil {
				t.Fatalf("%v, %v", open, err)
			}
			open.Changes = c.changes
			if err := saveRecord(n.Root, open); err != nil {
				t.Fatal(err)
			}
			n, err = start(c.words)
			if why, ok := errors.AsType[*plugin.Error](err); c.refused != (ok && why.Reason == plugin.BadArgument) || c.refused == errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			all, err := Records(n.Root)
			if err = errors.Join(err, n.locked("start")); err != nil {
				t.Fatal(err)
			}
			if last := all[len(all)-1]; (len(all) == 2) != c.anew || (all[0].State == Failed) != c.anew || last.State != Open {
				t.Errorf("%d starts, the first is %s and the last %s", len(all), all[0].State, last.State)
			}
			want := first
			if c.anew {
				want.PodCIDR, want.Auth = cmp.Or(c.words.PodCIDR, want.PodCIDR), c.words.Auth
			}
			r := n.Record
			if r.Name != want.Name || r.Address != want.Address || r.Network.PodCIDR != want.PodCIDR || (r.Auth == node.Token) != (want.Auth != "") {
				t.Errorf("the node is %+v", r)
			}
		})
	}
}

// TestStartAfterAnother: a first start that waited for another one finds the
// node that was made, and makes no other in its place.
func TestStartAfterAnother(t *testing.T) {
	t.Parallel()
	c := newNode(t, shippedPlugins(t))
	late, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = late.Close() })
	c.run(t)
	made, err := late.Root.LoadRecord()
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	late.Journal.Progress = &interrupting{interrupt: interrupt}
	err = late.Start(ctx, StartOptions{Name: "n2"})
	if why, ok := errors.AsType[*plugin.Error](err); !ok || why.Reason != plugin.BadArgument {
		t.Errorf("%v", err)
	}
	if err := late.locked("start"); err != nil || late.Record.ID != made.ID || late.Record.Name != made.Name {
		t.Errorf("%+v is now %+v, %v", made, late.Record, err)
	}
	if open, err := late.Journal.Open(); err != nil || open != nil {
		t.Errorf("what was refused stands open: %+v, %v", open, err)
	}
}

// TestWhoWaitedLooksAgain: what held the lock meanwhile may have changed the
// node, or removed it; who comes next writes nothing from before.
func TestWhoWaitedLooksAgain(t *testing.T) {
	t.Parallel()
	n := startedNode(t)
	changed, err := n.Root.LoadRecord()
	if err != nil {
		t.Fatal(err)
	}
	changed.Addresses = append(changed.Addresses, "10.0.0.99")
	if err := n.Root.SaveRecord(changed); err != nil {
		t.Fatal(err)
	}
	begin := func(verb string) error {
		r, err := n.Journal.Begin(t.Context(), verb, nil)
		if err != nil {
			return err
		}
		return r.End(t.Context(), nil)
	}
	if err := begin("stop"); err != nil || !slices.Contains(n.Record.Addresses, "10.0.0.99") {
		t.Errorf("%v: the node is %+v", err, n.Record)
	}
	if err := n.Root.RemoveAll("node.json"); err != nil {
		t.Fatal(err)
	}
	if err := begin("stop"); !errors.Is(err, ErrNoNode) {
		t.Errorf("a stop behind the end of the node: %v", err)
	}
	if err := begin("join"); err != nil || n.Record != nil {
		t.Errorf("a join behind the end of the node: %v, %+v", err, n.Record)
	}
}

// TestASwapLooksAgain: an authority that nobody trusted yet is trusted when the
// first start has ended that the swap waited for.
func TestASwapLooksAgain(t *testing.T) {
	t.Parallel()
	c := newNode(t, shippedPlugins(t))
	late, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = late.Close() })
	c.run(t)
	f := lockfile.Flip{Kind: plugin.KindCerts, Authority: "kubernetes"}
	f.From.Name, f.To.Name = "local", "other"
	flips := []lockfile.Flip{f}
	err = late.flip(t.Context(), "plugin use", nil, flips, func() ([]lockfile.Flip, error) { return flips, nil })
	if !errors.Is(err, ErrAuthorityInUse) {
		t.Errorf("%v", err)
	}
}
