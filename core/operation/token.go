package operation

import (
	"context"
	"fmt"

	"mk8s.io/mk/sdk/tokens"
)

// Tokens lists the tokens of this node without their secrets, the oldest
// first; with expired also those that are not good any more. It starts the
// active tokens plugin, and changes nothing.
func (n *Node) Tokens(ctx context.Context, expired bool) ([]tokens.Token, error) {
	p, who, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	all, err := p.List(ctx, expired)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", who, err)
	}
	return all, nil
}

// revocation is what the journal keeps of a token that ends.
type revocation struct {
	ID string `json:"id"`
}

// RevokeToken ends a token. Who holds it just now loses it, too: a join that
// has begun with it does not end well.
func (n *Node) RevokeToken(ctx context.Context, id string) error {
	r, err := n.Journal.Begin(ctx, "token revoke", revocation{ID: id})
	if err != nil {
		return err
	}
	return r.End(ctx, r.Step(ctx, "revoke the token "+id, func(ctx context.Context) error {
		p, who, err := n.Plugins.Tokens(ctx)
		if err != nil {
			return err
		}
		if err := p.Revoke(ctx, r.Call("revoke"), id); err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
		return nil
	}))
}
