package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/launch"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
	"mk8s.io/mk/sdk/tokens"
)

// slot is a place for a process, which may be killed and started again.
type slot struct {
	t            *testing.T
	program, dir string

	mu sync.Mutex
	p  *launch.Process
}

func newSlot(t *testing.T, program, dir string) *slot {
	t.Helper()
	s := &slot{t: t, program: program, dir: dir}
	s.restart()
	return s
}

func (s *slot) client() *client.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p.Client
}

// restart kills the process, in the middle of whatever it does, and starts
// another one.
func (s *slot) restart() {
	p := sdktest.Start(s.t, s.program)
	err := p.Tokens().Configure(s.t.Context(), plugin.Configuration{Settings: []byte("{}"), StateDir: s.dir})
	s.mu.Lock()
	old := s.p
	s.p = p
	s.mu.Unlock()
	if old != nil {
		if err := syscall.Kill(old.Pid(), syscall.SIGKILL); err != nil {
			s.t.Error(err)
		}
	}
	if err != nil {
		s.t.Error(err)
	}
}

// TestTenThousandClaimsHaveOneWinner: processes are killed while they decide,
// and nobody is told yes but one.
func TestTenThousandClaimsHaveOneWinner(t *testing.T) {
	t.Parallel()
	const claims, callers, restarts = 10_000, 64, 8
	program, dir := sdktest.Build(t, "."), t.TempDir()
	slots := make([]*slot, 4)
	for i := range slots {
		slots[i] = newSlot(t, program, dir)
	}
	token := issue(t, slots[0].client().Tokens(), tokens.IssueRequest{Purpose: tokens.Join, Uses: 1}).Token

	var next, lost atomic.Int64
	winners := make(chan tokens.Reservation, claims)
	claim := func(n int64) {
		who := fmt.Sprint("key-", n)
		for {
			v, err := reserve(t, slots[n%int64(len(slots))].client().Tokens(), token, who, tokens.Join, time.Hour)
			switch {
			case err == nil:
				winners <- v
			case errors.Is(err, plugin.TokenReserved):
				lost.Add(1)
			case t.Context().Err() == nil && errors.Is(err, plugin.Unavailable):
				continue // its process was killed: the same claimant asks again
			default:
				t.Error(err)
			}
			return
		}
	}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for n := next.Add(1); n <= claims && !t.Failed(); n = next.Add(1) {
				if n%(claims/restarts) == 0 {
					slots[n/(claims/restarts)%int64(len(slots))].restart()
				}
				claim(n)
			}
		})
	}
	wg.Wait()
	close(winners)
	held := map[string]bool{}
	for v := range winners {
		held[v.ID] = true
	}
	if len(held) != 1 || lost.Load() < claims-1 {
		t.Fatalf("%d winners, %d were told that another one holds it, of %d", len(held), lost.Load(), claims)
	}
	for id := range held {
		if err := slots[3].client().Tokens().Commit(t.Context(), sdktest.Call(), id); err != nil {
			t.Fatal(err)
		}
	}
	_, err := reserve(t, slots[1].client().Tokens(), token, "late", tokens.Join, time.Minute)
	wantReason(t, err, plugin.TokenUsed)
}
