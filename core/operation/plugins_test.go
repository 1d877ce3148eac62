package operation

import (
	"context"
	"errors"
	"testing"

	"mk8s.io/mk/pluginsdir/lockfile"
)

// TestInterruptedFlips: a plugin use goes on under its number, and can be
// undone by it; a rollback goes on for the plugin that it is of, no other.
func TestInterruptedFlips(t *testing.T) {
	t.Parallel()
	c := newNode(t, shippedPlugins(t))
	c.run(t)
	installOther(t, c)
	c.Command = "plugin use"
	n, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	active := func(want string) {
		t.Helper()
		lock, err := n.Dir.Lock()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range lock.Active {
			if a.Kind == "clustering" && a.Name != want {
				t.Errorf("active is %s, not %s", a.Name, want)
			}
		}
	}
	use := func(ctx context.Context) error {
		_, err := n.UsePlugin(ctx, "clustering", "other", "", "")
		return err
	}
	ctx, interrupt := context.WithCancel(t.Context())
	n.Journal.Progress = &interrupting{interrupt: interrupt}
	err = use(ctx)
	open, openErr := n.Journal.Open()
	if !errors.Is(err, context.Canceled) || openErr != nil || open == nil {
		t.Fatalf("%v; %+v, %v", err, open, openErr)
	}
	n.Journal.Progress = quiet{}
	if err := use(t.Context()); err != nil {
		t.Fatal(err)
	}
	active("other")
	if r, err := LoadRecord(n.Root, open.Number); err != nil || r.State != Done {
		t.Fatalf("what was interrupted is %s, %v", r.State, err)
	}
	if err := n.UndoOperation(t.Context(), open.Number); err != nil {
		t.Fatal(err)
	}
	active("etcd")

	if err := use(t.Context()); err != nil {
		t.Fatal(err)
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	local := lockfile.Flip{Kind: "certs", From: lockfile.Previous{Name: "local"}}
	for _, i := range lock.Installed {
		if i.Kind == "certs" {
			local.To = i
		}
	}
	r, err := n.Journal.Begin(t.Context(), "plugin rollback", []lockfile.Flip{local})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.End(ctx, ctx.Err()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := n.RollbackPlugin(t.Context(), "clustering", "other"); err != nil {
		t.Fatal(err)
	}
	active("etcd")
}
