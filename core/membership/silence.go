package membership

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

// askAfter is the pause before those that were silent are asked again.
const askAfter = time.Second

// isSilent tells that nobody answered, or that who did could not ask in turn:
// whoever it is may start again, or choose a leader.
func isSilent(err error) bool {
	if errors.Is(err, plugin.NotPossible) {
		return false // one of those that were asked has said why
	}
	if errors.Is(err, peer.Unreachable) || errors.Is(err, peer.NotNow) {
		return true
	}
	if d, ok := errors.AsType[*kube.DrainError](err); ok && len(d.Blocked) > 0 {
		return false // pods do not go, within the time that there was
	}
	_, said := errors.AsType[*plugin.Error](err)
	return !said && (kube.Silent(err) || datastore.Silent(err))
}

// whileSilent does something until whoever is asked answers, or was silent for
// as long as patience; what it waits for is said.
func (n Node) whileSilent(ctx context.Context, patience time.Duration, do func(context.Context) error) error {
	var over <-chan time.Time
	var last error
	for {
		err := do(ctx)
		if err == nil || !isSilent(err) {
			return err
		}
		if last == nil || ctx.Err() == nil { // else it says that the time was over, and no more
			last = err
		}
		if patience == 0 {
			return last
		}
		if over == nil {
			over = time.After(patience)
		}
		n.detail("wait for an answer: " + strings.ReplaceAll(last.Error(), "\n", "; "))
		pause := time.NewTimer(askAfter)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		case <-over:
			pause.Stop()
			return last
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return fmt.Errorf("wait for an answer: %w", context.Cause(ctx))
		}
		if ctx.Err() != nil {
			return last
		}
	}
}
