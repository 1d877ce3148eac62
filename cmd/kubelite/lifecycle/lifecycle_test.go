package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mk8s.io/mk/cmd/kubelite/lifecycle"
)

// record notes names in the order in which they are added.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// obedient is a component that needs some time to stop once it is asked.
func obedient(r *record, name string, stage int, takes time.Duration) lifecycle.Component {
	return lifecycle.Component{Name: name, Stage: stage, Run: func(ctx context.Context) error {
		<-ctx.Done()
		<-time.After(takes)
		r.add(name)
		return ctx.Err()
	}}
}

func TestStopsStageByStage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r record
		g := lifecycle.Group{
			Components: []lifecycle.Component{
				obedient(&r, "apiserver", 1, time.Second),
				obedient(&r, "scheduler", 2, 0),
				obedient(&r, "kubelet", 0, 2*time.Second),
				obedient(&r, "proxy", 0, time.Second),
			},
			Grace: map[int]time.Duration{0: 5 * time.Second, 1: 5 * time.Second, 2: 5 * time.Second},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := g.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		if want := []string{"proxy", "kubelet", "apiserver", "scheduler"}; !slices.Equal(r.all(), want) {
			t.Errorf("stopped in the order %v; want %v", r.all(), want)
		}
		if took := time.Since(start); took != time.Minute+3*time.Second {
			t.Errorf("took %v; want a minute and the 2 s and 1 s of the stages", took)
		}
	})
}

func TestFirstToEndNamesTheFailure(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, tt := range []struct {
		name  string
		ends  error
		cause error
	}{
		{"with an error", boom, boom},
		{"without one", nil, lifecycle.ErrEnded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var r record
				g := lifecycle.Group{
					Components: []lifecycle.Component{
						obedient(&r, "apiserver", 1, 0),
						{Name: "kubelet", Run: func(context.Context) error { return tt.ends }},
					},
					Grace: map[int]time.Duration{0: time.Second, 1: time.Second},
				}
				err := g.Run(t.Context())
				if !errors.Is(err, tt.cause) || !strings.HasPrefix(err.Error(), "kubelet: ") {
					t.Errorf("err = %v; want one of the kubelet, caused by %v", err, tt.cause)
				}
				if !slices.Equal(r.all(), []string{"apiserver"}) {
					t.Errorf("stopped %v; want the apiserver stopped in order too", r.all())
				}
			})
		})
	}
}

func TestLeavesBehindWhoIgnoresTheStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r record
		release := make(chan struct{})
		defer close(release)
		g := lifecycle.Group{
			Components: []lifecycle.Component{
				{Name: "proxy", Run: func(context.Context) error { <-release; return nil }},
				obedient(&r, "apiserver", 1, 0),
				{Name: "scheduler", Stage: 2, Run: func(context.Context) error { <-release; return nil }},
			},
			Grace: map[int]time.Duration{0: 3 * time.Second, 1: time.Second},
			Log:   r.add,
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		if err := g.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v; want the grace of the stage that hangs, none for the one without", took)
		}
		want := []string{"stopping: asked to", "left behind after 3s: proxy", "apiserver", "apiserver: stopped", "left behind after 0s: scheduler"}
		if !slices.Equal(r.all(), want) {
			t.Errorf("log:\n%s\nwant:\n%s", strings.Join(r.all(), "\n"), strings.Join(want, "\n"))
		}
	})
}

// A component may watch for the same signal as the caller and be gone first; that is no failure.
func TestEndingTogetherWithTheContextIsNoFailure(t *testing.T) {
	t.Parallel()
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		g := lifecycle.Group{Components: []lifecycle.Component{
			{Name: "kubelet", Run: func(context.Context) error { cancel(); return context.Canceled }},
		}}
		if err := g.Run(ctx); err != nil {
			t.Fatalf("Run: %v", err)
		}
	}
}
