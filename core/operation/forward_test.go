package operation

import (
	"context"
	"errors"
	"testing"
)

// TestForwardStaysOpen: what cannot be taken back is gone on with by the same
// words, and no other verb goes over it, for as long as there is a node.
func TestForwardStaysOpen(t *testing.T) {
	t.Parallel()
	c := newNode(t, shippedPlugins(t))
	c.run(t)
	c.Command = "leave"
	n, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	broken := errors.New("nobody answers")
	end := func(forward bool) *Record {
		t.Helper()
		r, err := n.Journal.Begin(t.Context(), "leave", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Record.Forward = forward
		if err := r.End(t.Context(), broken); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		return r.Record
	}
	if r := end(false); r.State != Failed {
		t.Errorf("a leave that may be begun anew is %s", r.State)
	}
	first := end(true)
	if again := end(true); first.State != Open || again.Number != first.Number {
		t.Errorf("leave %d is %s, and goes on as %d", first.Number, first.State, again.Number)
	}
	_, err = n.Journal.Begin(t.Context(), "start", nil)
	if open, ok := errors.AsType[*OpenError](err); !ok || open.Record.Number != first.Number {
		t.Errorf("a start goes over it: %v", err)
	}
	if err := n.Root.RemoveAll("node.json"); err != nil {
		t.Fatal(err)
	}
	r, err := n.Journal.Begin(t.Context(), "start", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.End(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestOtherWordsBeginAnew: what a killed operation has done counts for the same
// words only.
func TestOtherWordsBeginAnew(t *testing.T) {
	t.Parallel()
	c := newNode(t, shippedPlugins(t))
	c.run(t)
	n, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	killed, kill := context.WithCancel(t.Context())
	kill()
	begin := func(value string) *Record {
		t.Helper()
		r, err := n.Journal.Begin(t.Context(), "args", map[string]string{"kubelet": value})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Step(t.Context(), "change the argument", func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := r.End(killed, killed.Err()); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		return r.Record
	}
	first := begin("max-pods=1")
	if again := begin("max-pods=1"); again.Number != first.Number {
		t.Errorf("the same words begin %d, and do not go on with %d", again.Number, first.Number)
	}
	other := begin("max-pods=2")
	if other.Number == first.Number {
		t.Error("other words go on with what stands open, and its steps count as done")
	}
	all, err := Records(n.Root)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Number == first.Number && r.State != Failed {
			t.Errorf("what was interrupted is %s", r.State)
		}
	}
}
