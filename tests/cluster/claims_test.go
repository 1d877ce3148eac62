//go:build cluster

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/core/joinstring"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
	tests "mk8s.io/mk/tests/machine"
)

// claimant is a worker that would join. It asks from one of the addresses of
// its machine: an agent bounds how often each may ask.
type claimant struct{ *tests.Joiner }

func newClaimant(m *machine, i joinstring.Invitation, number, caller int64) (*claimant, error) {
	from := &net.TCPAddr{IP: net.IPv4(127, 8, 0, byte(caller+1))}
	j, err := tests.NewJoiner(i, fmt.Sprint("claimant-", number), fmt.Sprintf("10.98.%d.%d", number/200, number%200+1), peer.Options{
		Patience: time.Minute, Met: true,
		Dial: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = m.Inside(func() error {
				conn, err = (&net.Dialer{LocalAddr: from}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	})
	return &claimant{j}, err
}

// begin asks to be let in, and again while the agent's plugin is killed with it.
func (c *claimant) begin(ctx context.Context) error {
	for {
		var begun peer.Begun
		c.Request.Now = time.Now()
		err := c.Client.Call(ctx, peer.BeginPath, c.Request, &begun)
		switch {
		case errors.Is(err, plugin.Unavailable) && ctx.Err() == nil:
			continue
		case err == nil && begun.Reservation == "":
			return errors.New("it was neither let in nor refused")
		}
		return err
	}
}

// manyClaim has ten thousand workers claim one token for one use while the
// agent is killed, again and again, and started: one is let in. What it does
// not end with is not spent: when it has let go, another one is let in.
func manyClaim(t *testing.T, m *machine) {
	const claims, callers, restarts = 10_000, 32, 6
	i, err := joinstring.Parse(m.invite("--worker"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var next, lost atomic.Int64
	var winners []*claimant
	var mu, killing sync.Mutex
	var group sync.WaitGroup
	began := time.Now()
	for caller := range int64(callers) {
		group.Go(func() {
			for n := next.Add(1); n <= claims && !t.Failed(); n = next.Add(1) {
				if n%(claims/restarts) == 0 {
					group.Go(func() {
						killing.Lock()
						defer killing.Unlock()
						agentKilled(t, m)
					})
				}
				c, err := newClaimant(m, i, n, caller)
				if err != nil {
					t.Error(err)
					return
				}
				switch err := c.begin(ctx); {
				case err == nil:
					mu.Lock()
					winners = append(winners, c)
					mu.Unlock()
					continue
				case errors.Is(err, plugin.TokenReserved):
					lost.Add(1)
				default:
					t.Errorf("claim %d: %v", n, err)
				}
				c.Client.Close()
			}
		})
	}
	group.Wait()
	if len(winners) != 1 || lost.Load() != claims-1 {
		t.Fatalf("%d were let in, %d were told that another one is, of %d", len(winners), lost.Load(), claims)
	}
	t.Logf("%d claims, 1 winner, %d restarts of the agent in %s", claims, restarts, round(time.Since(began)))
	first := winners[0]
	if err := first.Client.Call(ctx, peer.ReleasePath, peer.Ref{Operation: first.Request.Operation}, nil); err != nil {
		t.Error(err)
	}
	last, err := newClaimant(m, i, claims+1, 0)
	if err == nil {
		err = errors.Join(last.begin(ctx), last.Client.Call(ctx, peer.ReleasePath, peer.Ref{Operation: last.Request.Operation}, nil))
	}
	if err != nil {
		t.Errorf("a token that nobody joined with: %v", err)
	}
	first.Client.Close()
	last.Client.Close()
}

// agentKilled kills the agent, in the middle of whatever it does, and has
// another one take over.
func agentKilled(t *testing.T, m *machine) {
	if err := syscall.Kill(m.daemon(), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if out, err := m.try(2*time.Minute, "mk", "start"); err != nil {
		t.Errorf("mk start behind its agent: %v\n%s", err, out)
	}
}
