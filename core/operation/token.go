package operation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// tokenFiles are the names under which people know where tokens are.
func tokenFiles() []string {
	return []string{"cluster-tokens.txt", "persistent-cluster-tokens.txt", "callback-token.txt", "callback-tokens.txt", "certs-request-tokens.txt"}
}

// linkTokens puts links to the active tokens plugin's files among the
// credentials: for people, mk itself never opens them. A file that is there
// stays: someone wrote it.
func (n *Node) linkTokens() error {
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	active, ok := lock.ActiveFor(plugin.KindTokens, "")
	if !ok {
		return nil
	}
	for _, name := range tokenFiles() {
		link, target := "credentials/"+name, "../plugins/state/tokens/"+active.Name+"/"+name
		info, err := n.Root.Lstat(link)
		if err == nil && info.Mode().Type() != fs.ModeSymlink {
			continue
		}
		var old string
		if err == nil {
			old, err = n.Root.Readlink(link)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if old == target {
			continue
		}
		if err := n.Root.Symlink(target, link); err != nil {
			return err
		}
	}
	return nil
}

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
