package cluster

import (
	"context"
	"sync"
	"time"
)

// AtOnce says how many agents are called at a time, and how long each call may
// take.
type AtOnce struct {
	Calls int
	Limit time.Duration
}

// Quick is for calls that are answered from what an agent knows.
func Quick() AtOnce { return AtOnce{Calls: 64, Limit: 5 * time.Second} }

// Each calls the agents of members, many at once. told hears of each call's
// end, one at a time: answers do not pile up.
func Each[T any](ctx context.Context, members []*Member, bounds AtOnce, call func(ctx context.Context, m *Member) (T, error), told func(m *Member, answer T, err error)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	next := make(chan *Member)
	for range min(bounds.Calls, len(members)) {
		wg.Go(func() {
			for m := range next {
				limited, cancel := context.WithTimeout(ctx, bounds.Limit)
				answer, err := call(limited, m)
				cancel()
				mu.Lock()
				told(m, answer, err)
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
