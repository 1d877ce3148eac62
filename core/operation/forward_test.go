package operation

import (
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
