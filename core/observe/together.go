package observe

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// outcome is what one question led to.
type outcome[T any] struct {
	value T
	err   error
}

// together asks all questions at once and returns at the limit at the latest,
// or when ctx ends. A question that hangs, in a read from a disk that is gone,
// is left behind; its error says that there was no answer.
func together[T any](ctx context.Context, limit time.Duration, questions map[string]func(context.Context) (T, error)) map[string]outcome[T] {
	if end, ok := ctx.Deadline(); ok {
		limit = max(0, min(limit, time.Until(end)))
	}
	over, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Who minds the context gets to say what he waited for.
	asked, cancelAsked := context.WithTimeout(over, limit-limit/20)
	defer cancelAsked()
	type named struct {
		name string
		outcome[T]
	}
	answers := make(chan named, len(questions)) // room for who comes late
	for name, ask := range questions {
		go func() {
			value, err := ask(asked)
			answers <- named{name, outcome[T]{value, err}}
		}()
	}
	out := make(map[string]outcome[T], len(questions))
	for range questions {
		select {
		case a := <-answers:
			if errors.Is(a.err, context.DeadlineExceeded) {
				a.err = silence(limit)
			}
			out[a.name] = a.outcome
		case <-over.Done():
			for name := range questions {
				if _, ok := out[name]; !ok {
					out[name] = outcome[T]{err: silence(limit)}
				}
			}
			return out
		}
	}
	return out
}

func silence(limit time.Duration) error {
	return fmt.Errorf("no answer in %s", limit.Round(100*time.Millisecond))
}
