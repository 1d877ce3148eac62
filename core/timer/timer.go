// Package timer is how the core waits between two looks.
//
// Guaranteed: a wait ends with its context. It decides nothing.
package timer

import (
	"context"
	"time"
)

// Wait waits that long; false says that the context ended before.
func Wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
