package timer

import (
	"context"
	"testing"
	"time"
)

func TestWaitEndsWithItsTimeOrItsContext(t *testing.T) {
	t.Parallel()
	began := time.Now()
	if !Wait(t.Context(), 20*time.Millisecond) || time.Since(began) < 20*time.Millisecond {
		t.Errorf("a wait ended after %s", time.Since(began))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if Wait(ctx, time.Hour) {
		t.Error("a wait that its context ended says that it was whole")
	}
}
