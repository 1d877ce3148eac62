package membership

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// lookEvery is how often it is looked who has come.
const lookEvery = time.Second

// Arrival is a node that joins with a token, or has joined, or has given up.
type Arrival struct {
	Name    string
	Address string
	Role    string
	State   cluster.State // empty: its join was taken back
}

// WatchToken tells who joins with a token, until no use of it is left, it has
// ended, or ctx has: that is no error.
func (n Node) WatchToken(ctx context.Context, token string, tell func(Arrival)) error {
	t, who, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return err
	}
	// To hold it for a moment is how to learn the name of a token.
	op := node.NewID()
	held, err := t.Reserve(ctx, tokens.ReserveRequest{
		Call: plugin.Call{OperationID: op + "/reserve"}, Token: token, Purpose: tokens.Join, Lease: checkLease, Claimant: tokens.Claimant{Name: "mk add-node"},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if err := t.Release(ctx, plugin.Call{OperationID: op + "/release"}, held.ID); err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	seen := map[string]Arrival{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		good, err := t.List(ctx, false)
		if err == nil {
			err = n.arrivals(ctx, held.TokenID, seen, tell)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(good, func(t tokens.Token) bool { return t.ID == held.TokenID }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// arrivals tells what has changed since it was last looked.
func (n Node) arrivals(ctx context.Context, token string, seen map[string]Arrival, tell func(Arrival)) error {
	all, err := n.Members(ctx)
	if err != nil {
		return err
	}
	now := map[string]bool{}
	for _, m := range all {
		if m.Token != token {
			continue
		}
		now[m.Name] = true
		a := Arrival{Name: m.Name, Address: m.Address, Role: m.Role, State: m.State}
		if seen[m.Name] != a {
			seen[m.Name] = a
			tell(a)
		}
	}
	for name, a := range seen {
		if !now[name] {
			delete(seen, name)
			a.State = ""
			tell(a)
		}
	}
	return nil
}
