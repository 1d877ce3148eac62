package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func argument(node, option, value string) Argument {
	return Argument{Node: node, Service: "kubelet", Option: option, Owner: Owner, Value: &value}
}

// A node's own wish goes before that for all, whichever was first.
func TestForOneNode(t *testing.T) {
	t.Parallel()
	for _, order := range [][]Argument{
		{argument("", "a", "all"), argument("n2", "a", "own"), argument("n3", "b", "other")},
		{argument("n2", "a", "own"), argument("n3", "b", "other"), argument("", "a", "all")},
	} {
		w := &Wanted{}
		for _, a := range order {
			w.SetArgument(a)
		}
		for node, want := range map[string]string{"n1": "a=all", "n2": "a=own"} {
			got := w.For(node)
			if len(got) != 1 || got[0].Option+"="+*got[0].Value != want {
				t.Errorf("%s has %+v, want %s", node, got, want)
			}
		}
	}
}

// Setting again moves the generation on, so that nodes that drifted do it
// again; taking back what is not wanted says so.
func TestSetAndDrop(t *testing.T) {
	t.Parallel()
	w := &Wanted{Generation: 4}
	w.SetArgument(argument("", "a", "1"))
	w.Generation++
	w.SetArgument(argument("", "a", "2"))
	if len(w.Arguments) != 1 || w.Arguments[0].Generation != 6 || *w.Arguments[0].Value != "2" {
		t.Errorf("set twice: %+v", w.Arguments)
	}
	if w.DropArgument(argument("n1", "a", "")) || !w.DropArgument(argument("", "a", "")) || len(w.Arguments) != 0 {
		t.Errorf("taken back: %+v", w.Arguments)
	}
	for range 3 * keptOnce {
		w.AddRestart(Restart{})
		w.AddRenewal(Renewal{})
		w.Generation++
	}
	if len(w.Restarts) != keptOnce || len(w.Renewals) != keptOnce || w.Restarts[keptOnce-1].Generation != w.Generation {
		t.Errorf("%d restarts and %d renewals are kept, the newest of generation %d of %d", len(w.Restarts), len(w.Renewals), w.Restarts[keptOnce-1].Generation, w.Generation)
	}
}

func TestLags(t *testing.T) {
	t.Parallel()
	members := []*Member{{Name: "c", State: Joined}, {Name: "a", State: Joined}, {Name: "b", State: Joined}, {Name: "d", State: Joining}}
	reports := map[string]*Report{"a": {Generation: 7}, "b": {Generation: 6}}
	if got := Lags(members, reports, 7); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("%v lag behind", got)
	}
}

// A thousand agents, of which some hang, cost a bounded number of calls at a
// time and no longer than the slowest.
func TestEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var members []*Member
		for i := range 1000 {
			members = append(members, &Member{Name: fmt.Sprintf("n%d", i), Address: "10.0.0.1", AgentPort: i + 1})
		}
		var now, most atomic.Int64
		silent, began := 0, time.Now()
		bounds := Quick()
		Each(t.Context(), members, bounds, func(ctx context.Context, m *Member) (string, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			wait := 100 * time.Millisecond
			if m.Agent() == "10.0.0.1:7" {
				wait = time.Hour
			}
			select {
			case <-time.After(wait):
				return m.Name, nil
			case <-ctx.Done():
				return m.Name, ctx.Err()
			}
		}, func(m *Member, answer string, err error) {
			if answer != m.Name {
				t.Errorf("the answer of %s is given as that of %s", answer, m.Name)
			}
			if errors.Is(err, context.DeadlineExceeded) {
				silent++
			}
		})
		if took := time.Since(began); silent != 1 || most.Load() > int64(bounds.Calls) || took > bounds.Limit+2*time.Second {
			t.Errorf("%d were silent, %d at once, %s", silent, most.Load(), took)
		}
	})
}
