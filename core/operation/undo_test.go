package operation

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/change"
)

// TestUndoOperation takes the newest back, once, and neither the one before
// nor the start.
func TestUndoOperation(t *testing.T) {
	t.Parallel()
	c := newNode(t, shippedPlugins(t))
	c.run(t)
	c.Command = "args"
	n, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	file := filepath.Join(c.Root, "args", "kubelet")
	set := func(v string) string {
		t.Helper()
		if _, err := n.SetArgument(t.Context(), ArgumentOptions{Service: "kubelet", Option: "v", Value: &v}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	first := set("1")
	set("2")
	two := "2"
	for name, o := range map[string]ArgumentOptions{"set": {Service: "kubelet", Option: "v", Value: &two}, "unset": {Service: "kubelet", Option: "nope", Unset: true}} {
		changed, err := n.SetArgument(t.Context(), o)
		if all, listErr := Records(n.Root); err != nil || changed != 0 || listErr != nil || len(all) != 3 {
			t.Errorf("%s what is so already: changed %v, %d operations (%v, %v)", name, changed, len(all), err, listErr)
		}
		if plan, err := n.DryArgument(t.Context(), o); err != nil || len(plan.Changes) > 0 {
			t.Errorf("%s what is so already would do %v (%v)", name, plan, err)
		}
	}
	for range 2 { // a killed one is asked again
		if err := n.Engine.Undo(t.Context(), change.ID{Operation: 3, Change: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.UndoOperation(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != first {
		t.Errorf("%s (%v), not %s", data, err, first)
	}
	if err := n.UndoOperation(t.Context(), 3); err == nil {
		t.Error("it was undone twice")
	}
	if err := n.UndoOperation(t.Context(), 2); !errors.Is(err, change.ErrNotLast) {
		t.Errorf("the one before: %v", err)
	}
	if err := n.UndoOperation(t.Context(), 1); err == nil {
		t.Error("the start was undone")
	}
	undoRenewal(t, n)
}

// undoRenewal goes back to the certificates before a renewal, once.
func undoRenewal(t *testing.T, n *Node) {
	t.Helper()
	if _, err := n.UndoRenewal(t.Context()); err == nil {
		t.Error("a renewal that never was is undone")
	}
	file := n.Root.Path("certs", "server.crt")
	read := func() string {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before := read()
	if _, err := n.Renew(t.Context(), RenewOptions{}); err != nil {
		t.Fatal(err)
	}
	if read() == before {
		t.Fatal("nothing was renewed")
	}
	number, err := n.UndoRenewal(t.Context())
	if err != nil || read() != before {
		t.Errorf("undone: %d (%v), the certificate before is back: %v", number, err, read() == before)
	}
	if _, err := n.UndoRenewal(t.Context()); err == nil {
		t.Error("it was undone twice")
	}
	later := n.Now().AddDate(20, 0, 0)
	if _, err := n.Renew(t.Context(), RenewOptions{}); err != nil {
		t.Fatal(err)
	}
	n.Options.Now = func() time.Time { return later }
	if _, err := n.UndoRenewal(t.Context()); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("back to what has ended: %v", err)
	}
}
