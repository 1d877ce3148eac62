package membership

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

// heard keeps what is said.
type heard struct {
	quiet

	said *[]string
}

func (h heard) Detail(text string) { *h.said = append(*h.said, text) }

// Who is silent is asked again until it answers, for as long as there is
// patience; who refuses is not.
func TestWhoIsSilentIsAskedAgain(t *testing.T) {
	t.Parallel()
	gone := fmt.Errorf("10.0.0.4:25000: %w", &plugin.Error{Reason: peer.Unreachable, Message: "it does not answer"})
	notNow := errors.Join(gone, &plugin.Error{Reason: peer.NotNow, Message: "its API server does not answer"})
	refused := plugin.Errorf(NotAllowed, "no")
	notGone := errors.Join(gone, plugin.Errorf(plugin.NotPossible, "pods block"))
	blocked := &kube.DrainError{Node: "n4", Blocked: []kube.BlockedPod{{}}, Err: context.DeadlineExceeded}
	for name, c := range map[string]struct {
		patience time.Duration
		answers  []error // the last one again and again
		end      error
		tries    int
	}{
		"it answers":             {10 * time.Second, []error{nil}, nil, 1},
		"it starts again":        {10 * time.Second, []error{gone, notNow, nil}, nil, 3},
		"it refuses":             {10 * time.Second, []error{refused}, refused, 1},
		"it starts and refuses":  {10 * time.Second, []error{gone, refused}, refused, 2},
		"pods block on one":      {10 * time.Second, []error{gone, notGone}, notGone, 2},
		"pods block here":        {10 * time.Second, []error{gone, blocked}, blocked, 2},
		"it stays away":          {3500 * time.Millisecond, []error{gone}, gone, 4},
		"nobody waits":           {0, []error{gone}, gone, 1},
		"its API server is slow": {10 * time.Second, []error{context.DeadlineExceeded, nil}, nil, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var said []string
			n, tries := Of(&operation.Node{Options: operation.Options{Progress: heard{said: &said}}}), 0
			err := n.whileSilent(t.Context(), c.patience, func(context.Context) error {
				tries++
				return c.answers[min(tries, len(c.answers))-1]
			})
			if !errors.Is(err, c.end) || (err == nil) != (c.end == nil) || tries != c.tries {
				t.Errorf("%s: asked %d times: %v", name, tries, err)
			}
			if waits := len(said) > 0; waits != (c.tries > 1) || waits && !strings.HasPrefix(said[0], "wait for an answer: ") {
				t.Errorf("%s: said %q", name, said)
			}
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	n := Of(&operation.Node{})
	err := n.whileSilent(ctx, time.Minute, func(context.Context) error { cancel(stopped); return gone })
	if !errors.Is(err, stopped) {
		t.Errorf("one that is stopped: %v", err)
	}
}

// What another said is not hidden by those that were silent.
func TestOneThatRefusesIsHeard(t *testing.T) {
	t.Parallel()
	gone := plugin.Errorf(peer.Unreachable, "it does not answer")
	if err := silent(errors.Join(gone, plugin.Errorf(plugin.NotPossible, "pods block")), "drain the node"); strings.Contains(err.Error(), "drain the node") {
		t.Errorf("said as if nobody had answered: %v", err)
	}
	if err := silent(gone, "drain the node"); !strings.Contains(err.Error(), "drain the node") {
		t.Errorf("nobody answers: %v", err)
	}
}

// Whoever stops a leave goes on with the step that it was at.
func TestAStoppedStepIsNotDone(t *testing.T) {
	t.Parallel()
	n := Of(&operation.Node{Options: operation.Options{Progress: heard{said: new([]string)}}})
	ctx, stop := context.WithCancel(t.Context())
	do := n.tolerated(func(ctx context.Context) error { return errors.Join(errors.New("broken"), ctx.Err()) })
	if err := do(ctx); err != nil {
		t.Errorf("what fails is left out: %v", err)
	}
	stop()
	if err := do(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a step that was stopped: %v", err)
	}
}
