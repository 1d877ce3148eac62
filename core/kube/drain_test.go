package kube

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// evictor is a program in kubelite's place, and the node that it is to work on.
func evictor(t *testing.T, script string) (c *Client, program string, cordoned *atomic.Bool) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "kubelite")
	// Another test's fork would keep the file open for writing, and the kernel then refuses to run it.
	syscall.ForkLock.RLock()
	err := os.WriteFile(program, []byte("#!/bin/sh\n"+script), 0o700) //nolint:gosec // a program
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	cordoned = &atomic.Bool{}
	c = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			cordoned.Store(!cordoned.Load())
		}
		answer(w, 200, object{"kind": "Node", "apiVersion": "v1", "metadata": object{"name": "a"}, "spec": object{"unschedulable": cordoned.Load()}})
	})
	return c, program, cordoned
}

func TestDrainTellsWhatKubeliteTells(t *testing.T) {
	t.Parallel()
	c, program, cordoned := evictor(t, `[ "$1" = drain ] || exit 9
echo '{"progress":"pod a/b is gone"}'
echo '{"end":true}'
`)
	var told []string
	if err := c.Drain(t.Context(), "a", DrainOptions{Program: program}, func(s string) { told = append(told, s) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []string{"pod a/b is gone"}) || !cordoned.Load() {
		t.Fatalf("told %q, cordoned %v", told, cordoned.Load())
	}
}

func TestDrainThatFailsTakesTheNodeBack(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ script, want string }{
		"an answer of the server": {`echo '{"end":true,"error":"x","status":{"status":"Failure","reason":"NotFound","message":"it is gone","code":404},"blocked":[{"namespace":"a","name":"b","reason":"why","budgets":["a/guard"]}]}'`,
			"drain node a: it is gone; pod a/b: why (PodDisruptionBudget a/guard); the node takes pods again"},
		"no end":     {"echo broken >&2; exit 3", "did not say how it ended"},
		"not JSON":   {"echo hello", "did not say how it ended"},
		"no program": {"", "no such file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, program, cordoned := evictor(t, tt.script)
			if name == "no program" {
				program += ".gone"
			}
			err := c.Drain(t.Context(), "a", DrainOptions{Program: program}, nil)
			failed, ok := errors.AsType[*DrainError](err)
			if !ok || !strings.Contains(err.Error(), tt.want) || !failed.Uncordoned || cordoned.Load() {
				t.Fatalf("%v; %+v; cordoned %v", err, failed, cordoned.Load())
			}
			if want := strings.Contains(tt.script, "NotFound"); NotFound(err) != want {
				t.Errorf("NotFound is %v", !want)
			}
		})
	}
}

func TestDrainEndsWithItsContextAndTakesKubeliteAlong(t *testing.T) {
	t.Parallel()
	c, program, _ := evictor(t, `cat >/dev/null # until its input ends
echo '{"end":true,"error":"context canceled","blocked":[{"namespace":"a","name":"b","reason":"why"}]}'
`)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := c.Drain(ctx, "a", DrainOptions{Program: program}, nil)
	failed, ok := errors.AsType[*DrainError](err)
	if !ok || !errors.Is(err, context.DeadlineExceeded) || len(failed.Blocked) != 1 || !failed.Uncordoned {
		t.Fatalf("%v; %+v", err, failed)
	}
}
