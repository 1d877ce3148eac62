package operation

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
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
	n := startedNode(t)
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

// TestWordsAreCompared: what an operation was told is part of what it is,
// wherever it was said; what may be a secret is in no journal.
func TestWordsAreCompared(t *testing.T) {
	t.Parallel()
	n := startedNode(t)
	for _, c := range []struct {
		name string
		ask  func(ctx context.Context, word string) error
	}{
		{"settings", func(ctx context.Context, word string) error {
			return n.WriteSettings(ctx, []byte("proxy.http: http://"+word))
		}},
		{"an argument", func(ctx context.Context, word string) error {
			_, err := n.WishArgument(ctx, ArgumentOptions{Service: "kubelet", Option: "v", Value: &word}, Where{All: true})
			return err
		}},
		{"where to restart", func(ctx context.Context, word string) error {
			_, err := n.WishRestart(ctx, []string{"kubelite"}, Where{All: true, Local: word != "password-1"})
			return err
		}},
		{"where to renew", func(ctx context.Context, word string) error {
			_, err := n.WishRenewal(ctx, []string{"server"}, Where{All: true, Local: word != "password-1"})
			return err
		}},
		{"what to repair", func(ctx context.Context, word string) error {
			var cs changeset.ChangeSet
			cs.Operations = []changeset.Operation{{Action: &changeset.WriteFile{Path: "certs/serviceaccount.key", Content: []byte(word), Secret: true}}}
			return n.Repair(ctx, Repair{Changes: cs, Services: []string{"etcd"}})
		}},
	} {
		ask := func(word string) int {
			t.Helper()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			n.Journal.Progress = &interrupting{interrupt: interrupt}
			if err := c.ask(ctx, word); !errors.Is(err, context.Canceled) {
				t.Fatalf("%s: %v", c.name, err)
			}
			r, err := n.Journal.Open()
			if err != nil || r == nil {
				t.Fatalf("%s: %v, %v", c.name, r, err)
			}
			if bytes.Contains(r.Params, []byte("password")) {
				t.Errorf("%s: the journal holds %s", c.name, r.Params)
			}
			return r.Number
		}
		first := ask("password-1")
		if again := ask("password-1"); again != first {
			t.Errorf("%s: the same words begin %d, and do not go on with %d", c.name, again, first)
		}
		if other := ask("password-2"); other == first {
			t.Errorf("%s: other words go on with what stands open", c.name)
		}
	}
}

// What is paused is left alone, whoever asks; resumed, it is gone on with by the
// same words. What is given up has failed, and the same words begin anew.
func TestPausedResumedGivenUp(t *testing.T) {
	t.Parallel()
	n := startedNode(t)
	killed, kill := context.WithCancel(t.Context())
	kill()
	done := 0
	begin := func() (*Record, error) {
		r, err := n.Journal.Begin(t.Context(), "args", map[string]string{"kubelet": "max-pods=1"})
		if err != nil {
			return nil, err
		}
		if err := r.Step(t.Context(), "change the argument", func(context.Context) error { done++; return nil }); err != nil {
			t.Error(err)
		}
		if err := r.End(killed, killed.Err()); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		return r.Record, nil
	}
	first, err := begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.PauseOperation(t.Context(), first.Number, true); err != nil {
		t.Fatal(err)
	}
	if _, err := begin(); !errors.Is(err, ErrPaused) {
		t.Errorf("the same words, while it is paused: %v", err)
	}
	_, err = n.Journal.Begin(t.Context(), "restart", nil)
	if open, ok := errors.AsType[*OpenError](err); !ok || open.Record.Number != first.Number {
		t.Errorf("another verb, while it is paused: %v", err)
	}
	if err := n.PauseOperation(t.Context(), first.Number, false); err != nil {
		t.Fatal(err)
	}
	if again, err := begin(); err != nil || again.Number != first.Number || done != 1 {
		t.Errorf("resumed: %v, error %v, its step was done %d times", again, err, done)
	}
	if err := n.AbortOperation(t.Context(), first.Number); err != nil {
		t.Fatal(err)
	}
	if rec, err := n.record(first.Number); err != nil || rec.State != Failed || rec.Ended.IsZero() || rec.Error == "" {
		t.Errorf("given up: %+v, %v", rec, err)
	}
	join, err := n.Journal.Begin(t.Context(), "join", nil)
	if err == nil {
		err = join.Release()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := n.AbortOperation(t.Context(), join.Record.Number); !errors.Is(err, plugin.NotPossible) {
		t.Errorf("a join, of which others know more, is given up here alone: %v", err)
	}
	if err := join.GiveUp("by the test"); err != nil {
		t.Error(err)
	}
	for _, change := range []error{n.AbortOperation(t.Context(), first.Number), n.PauseOperation(t.Context(), first.Number, true)} {
		if !errors.Is(change, plugin.NotPossible) {
			t.Errorf("what has ended is changed: %v", change)
		}
	}
	if anew, err := begin(); err != nil || anew.Number == first.Number || done != 2 {
		t.Errorf("the same words, behind it: %v, error %v, its step was done %d times", anew, err, done)
	}
}
