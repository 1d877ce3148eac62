package cluster

import (
	"context"
	"sync"
	"time"
)

const (
	// nudgesAtOnce bounds how many agents are called at a time, and nudgeLimit
	// how long one may take: it is only a nudge.
	nudgesAtOnce = 64
	nudgeLimit   = 5 * time.Second
)

// Nudge calls the agents of members, many at once, so that they look at what
// is wanted without delay. told hears of each call's end, one at a time; a node
// that does not answer is no error: it reads the same object when it is back.
func Nudge(ctx context.Context, members []*Member, call func(ctx context.Context, address string) error, told func(name string, err error)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	next := make(chan *Member)
	for range min(nudgesAtOnce, len(members)) {
		wg.Go(func() {
			for m := range next {
				limited, cancel := context.WithTimeout(ctx, nudgeLimit)
				err := call(limited, m.Agent())
				cancel()
				mu.Lock()
				told(m.Name, err)
				mu.Unlock()
			}
		})
	}
	for _, m := range members {
		next <- m
	}
	close(next)
	wg.Wait()
}
