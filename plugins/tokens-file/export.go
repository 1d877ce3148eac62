package main

import (
	"context"
	"encoding/json"
	"fmt"

	"mk8s.io/mk/plugins/tokens-file/ledger"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/seal"
	"mk8s.io/mk/sdk/state"
	"mk8s.io/mk/sdk/tokens"
)

const exportFormat = "mk.tokens-file.v1"

// shared is what all control-plane nodes have alike: the secret that static
// credentials are derived from, and whom other nodes may be configured by.
// Tokens to join with stay where they were made: a connection string names one
// node, and a token for one use that two nodes know is good for two.
type shared struct {
	Key      []byte   `json:"key"`
	Callback []string `json:"callback,omitempty"` // lines
}

var _ plugin.Exporter = (*File)(nil)

// PrepareImport makes a key to seal to.
func (p *File) PrepareImport(ctx context.Context, call plugin.Call) ([]byte, error) {
	dir, _, err := p.open()
	if err != nil {
		return nil, err
	}
	return seal.PrepareImport(ctx, dir, p.now(), call)
}

// Export seals what all control-plane nodes have alike.
func (p *File) Export(ctx context.Context, call plugin.Call, recipient, binding []byte) (plugin.Sealed, error) {
	dir, l, err := p.open()
	if err != nil {
		return plugin.Sealed{}, err
	}
	s, err := p.secret(ctx, dir)
	if err != nil {
		return plugin.Sealed{}, err
	}
	now := p.now()
	question := fmt.Sprintf("export %x %x", recipient, binding)
	return state.Once(ctx, dir, now, call.OperationID, question, func(*state.Locked) (plugin.Sealed, error) {
		out := shared{Key: s.Key}
		records, _, err := l.All(now)
		if err != nil {
			return plugin.Sealed{}, err
		}
		for _, r := range records {
			if r.Purpose != tokens.Callback || r.Revoked || !r.Over(now).IsZero() {
				continue
			}
			line, err := r.Line()
			if err != nil {
				return plugin.Sealed{}, err
			}
			out.Callback = append(out.Callback, line)
		}
		data, err := json.Marshal(out)
		if err != nil {
			return plugin.Sealed{}, fmt.Errorf("export the tokens: %w", err)
		}
		sealed, err := seal.Seal(recipient, binding, data)
		if err != nil {
			return plugin.Sealed{}, plugin.Errorf(plugin.BadArgument, "export the tokens: %v", err)
		}
		return plugin.Sealed{Data: sealed, Format: exportFormat}, nil
	})
}

// Import takes over what Export sealed. The secret replaces the one that is
// here: from now on static credentials are the cluster's.
func (p *File) Import(ctx context.Context, call plugin.Call, sealed plugin.Sealed, binding []byte) error {
	if sealed.Format != exportFormat {
		return plugin.Errorf(plugin.Unsupported, "tokens in the format %.80q cannot be read, only %s", sealed.Format, exportFormat)
	}
	dir, l, err := p.open()
	if err != nil {
		return err
	}
	now := p.now()
	in, err := state.Once(ctx, dir, now, call.OperationID, "import", func(l *state.Locked) (shared, error) {
		return take(l, sealed.Data, binding)
	})
	if err != nil {
		return err
	}
	// The answer that was kept has no key; its lines are put down again where a
	// process was killed before it could.
	return l.Change(ctx, now, func(tx *ledger.Tx) error {
		for _, line := range in.Callback {
			r, err := ledger.ReadLine(line, tokens.Callback)
			if err != nil {
				return plugin.Errorf(plugin.BadArgument, "import the tokens: %v", err)
			}
			known, err := tx.Find(r.Hash.ID())
			if err != nil {
				return err
			}
			if known != nil {
				continue
			}
			if err := tx.Put(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// take opens what was sealed and writes the secret; it answers the rest.
func take(l *state.Locked, sealed, binding []byte) (shared, error) {
	data, err := seal.OpenImport(l, sealed, binding)
	if err != nil {
		return shared{}, err
	}
	var in shared
	if err := json.Unmarshal(data, &in); err != nil {
		return shared{}, plugin.Errorf(plugin.BadArgument, "import the tokens: %v", err)
	}
	if len(in.Key) != secretSize {
		return shared{}, plugin.Errorf(plugin.BadArgument, "import the tokens: the secret has %d bytes, not %d", len(in.Key), secretSize)
	}
	return shared{Callback: in.Callback}, l.Write(secretName, secret{Key: in.Key})
}
