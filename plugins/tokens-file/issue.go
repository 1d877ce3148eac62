package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"mk8s.io/mk/plugins/tokens-file/ledger"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// Bounds of what a token may carry: its line has to fit.
const (
	maxNames    = 100
	maxNameSize = 253
)

// Issue makes a token. Its text is derived from the operation, so that asking
// again gives the same one though only its hash is kept.
func (p *File) Issue(ctx context.Context, r tokens.IssueRequest) (tokens.Issued, error) {
	if err := checkIssue(r); err != nil {
		return tokens.Issued{}, err
	}
	dir, l, err := p.open()
	if err != nil {
		return tokens.Issued{}, err
	}
	s, err := p.secret(ctx, dir)
	if err != nil {
		return tokens.Issued{}, err
	}
	token := r.Token
	if token == "" {
		token = hex.EncodeToString(s.derive("token", r.Call.OperationID)[:16])
	}
	operation := hex.EncodeToString(s.derive("operation", r.Call.OperationID)[:16])
	hash := ledger.HashOf(token)
	var issued tokens.Issued
	now := p.now()
	err = l.Change(ctx, now, func(tx *ledger.Tx) error {
		old, err := tx.Find(hash.ID())
		if err != nil {
			return err
		}
		if old != nil && old.Operation != operation && old.Over(now).IsZero() {
			return plugin.Errorf(plugin.BadArgument, "this token is there already, as %s", hash.ID())
		}
		if old == nil || old.Operation != operation {
			old = newRecord(r, hash, operation, now)
			if err := tx.Put(old); err != nil {
				return err
			}
		}
		issued = tokens.Issued{Token: token, ID: hash.ID().String(), Expires: old.Expires}
		return nil
	})
	return issued, err
}

func newRecord(r tokens.IssueRequest, hash ledger.Hash, operation string, now time.Time) *ledger.Record {
	rec := &ledger.Record{
		Hash: hash, Purpose: r.Purpose, Operation: operation, Role: r.Role, BoundNames: r.BoundNames,
		Created: now.UTC().Truncate(time.Second), UsesLeft: r.Uses, Unbounded: r.Uses == 0,
	}
	if r.Lifetime > 0 {
		rec.Expires = now.Add(r.Lifetime).UTC().Truncate(time.Second)
	}
	return rec
}

func checkIssue(r tokens.IssueRequest) error {
	if r.Call.OperationID == "" {
		return plugin.Errorf(plugin.BadArgument, "the question carries no operation id")
	}
	if !slices.Contains([]tokens.Purpose{tokens.Join, tokens.Persistent, tokens.Callback, tokens.CertificateRequest}, r.Purpose) {
		return plugin.Errorf(plugin.BadArgument, "purpose %q is unknown", r.Purpose)
	}
	if r.Lifetime < 0 {
		return plugin.Errorf(plugin.BadArgument, "a lifetime of %s is negative", r.Lifetime)
	}
	if !slices.Contains([]string{"", plugin.RoleControlPlane, plugin.RoleWorker}, r.Role) {
		return plugin.Errorf(plugin.BadArgument, "role %q is unknown", r.Role)
	}
	if len(r.BoundNames) > maxNames {
		return plugin.Errorf(plugin.BadArgument, "%d names, at most %d are allowed", len(r.BoundNames), maxNames)
	}
	for _, n := range r.BoundNames {
		if n == "" || len(n) > maxNameSize || strings.ContainsFunc(n, unicode.IsControl) {
			return plugin.Errorf(plugin.BadArgument, "%q is not a node's name", n)
		}
	}
	if r.Token != "" {
		if err := ledger.CheckToken(r.Token); err != nil {
			return plugin.Errorf(plugin.BadArgument, "%v", err)
		}
	}
	return nil
}

// Revoke ends a token; again is no error.
func (p *File) Revoke(ctx context.Context, _ plugin.Call, id string) error {
	_, l, err := p.open()
	if err != nil {
		return err
	}
	parsed, ok := ledger.ParseID(id)
	if !ok {
		return plugin.Errorf(plugin.TokenUnknown, "there is no token %.40q", id)
	}
	now := p.now()
	return l.Change(ctx, now, func(tx *ledger.Tx) error {
		r, err := tx.Find(parsed)
		if err != nil {
			return err
		}
		if r == nil {
			return plugin.Errorf(plugin.TokenUnknown, "there is no token %s", id)
		}
		if r.Revoked {
			return nil
		}
		r.Revoked, r.Ended, r.Held = true, now.UTC(), nil
		return tx.Put(r)
	})
}

// List shows tokens that are good, and those that were where expired is asked
// for; the oldest first. Revoked ones are never shown. A line that someone
// wrote wrong is an error with file and line; joins with the others go on.
func (p *File) List(_ context.Context, expired bool) ([]tokens.Token, error) {
	_, l, err := p.open()
	if err != nil {
		return nil, err
	}
	now := p.now()
	records, wrong, err := l.All(now)
	if err != nil {
		return nil, err
	}
	if len(wrong) > 0 { // its text may be a secret
		return nil, plugin.Errorf(plugin.BadSettings, "%s: neither a token nor \"token|Unix time of its end\"", wrong[0])
	}
	slices.SortStableFunc(records, func(a, b *ledger.Record) int { return a.Created.Compare(b.Created) })
	var out []tokens.Token
	for _, r := range records {
		if r.Revoked || !expired && !r.Over(now).IsZero() {
			continue
		}
		t := tokens.Token{
			ID: r.Hash.ID().String(), Purpose: r.Purpose, Role: r.Role, BoundNames: r.BoundNames, Created: r.Created,
			Expires: r.Expires, UsesLeft: r.UsesLeft, Unbounded: r.Unbounded,
		}
		for _, h := range r.Held {
			if now.Before(h.Until) {
				t.ReservedBy = append(t.ReservedBy, h.Claimant)
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// Static answers credentials that stay the same until Forget, whoever asks
// for them: they are derived, and kept nowhere.
func (p *File) Static(ctx context.Context, call plugin.Call, want []tokens.Credential) ([]tokens.Credential, error) {
	if call.OperationID == "" {
		return nil, plugin.Errorf(plugin.BadArgument, "the question carries no operation id")
	}
	dir, _, err := p.open()
	if err != nil {
		return nil, err
	}
	s, err := p.secret(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("make credentials: %w", err)
	}
	out := slices.Clone(want)
	for i, c := range out {
		if c.User == "" {
			return nil, plugin.Errorf(plugin.BadArgument, "credential %d names no user", i+1)
		}
		out[i].Token = base64.StdEncoding.EncodeToString(s.derive("static", c.User))
	}
	return out, nil
}
