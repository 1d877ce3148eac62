package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/plugins/tokens-file/ledger"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// Leases are bounded: who holds a token asks again while it needs it.
const (
	defaultLease = time.Minute
	longestLease = 24 * time.Hour
	keptDone     = 32 // commits of one token that are known again
)

// Reserve lets a claimant hold a use of a token. Where nothing is decided
// anew — a wrong token, a held one — nothing is written.
func (p *File) Reserve(ctx context.Context, r tokens.ReserveRequest) (tokens.Reservation, error) {
	if r.Claimant == (tokens.Claimant{}) {
		return tokens.Reservation{}, plugin.Errorf(plugin.BadArgument, "nobody claims the token")
	}
	if len(r.Claimant.KeyFingerprint)+len(r.Claimant.Name)+len(r.Claimant.Address) > 512 {
		return tokens.Reservation{}, plugin.Errorf(plugin.BadArgument, "the claimant's name is too long")
	}
	_, l, err := p.open()
	if err != nil {
		return tokens.Reservation{}, err
	}
	hash, now := ledger.HashOf(r.Token), p.now()
	var out tokens.Reservation
	err = l.Change(ctx, now, func(tx *ledger.Tx) error {
		rec, err := tx.Find(hash.ID())
		if err != nil {
			return err
		}
		if rec == nil || subtle.ConstantTimeCompare(rec.Hash[:], hash[:]) != 1 || rec.Revoked || !serves(rec.Purpose, r.Purpose) {
			return plugin.Errorf(plugin.TokenUnknown, "the token is unknown")
		}
		hold, err := claim(rec, r, now)
		if err != nil {
			return err
		}
		out = tokens.Reservation{ID: hold.ID, TokenID: hash.ID().String(), Purpose: rec.Purpose, Role: rec.Role,
			BoundNames: rec.BoundNames, Until: hold.Until}
		return tx.Put(rec)
	})
	return out, err
}

// serves tells whether a token of one purpose is good where another is asked.
func serves(has, asked tokens.Purpose) bool {
	return has == asked || has == tokens.Persistent && asked == tokens.Join
}

// claim changes a token so that the claimant holds a use of it.
func claim(rec *ledger.Record, r tokens.ReserveRequest, now time.Time) (ledger.Hold, error) {
	lease := min(r.Lease, longestLease)
	if lease <= 0 {
		lease = defaultLease
	}
	until := now.Add(lease).UTC()
	rec.Held = slices.DeleteFunc(rec.Held, func(h ledger.Hold) bool { return !now.Before(h.Until) })
	same := func(h ledger.Hold) bool { return sameClaimant(h.Claimant, r.Claimant) }
	if i := slices.IndexFunc(rec.Held, same); i >= 0 {
		if until.After(rec.Held[i].Until) {
			rec.Held[i].Until = until
		}
		return rec.Held[i], nil
	}
	switch {
	case !rec.Ended.IsZero():
		return ledger.Hold{}, plugin.Errorf(plugin.TokenUsed, "the token %s was used before, at %s", rec.Hash.ID(), rec.Ended.Format(time.RFC3339))
	case !rec.Over(now).IsZero():
		return ledger.Hold{}, plugin.Errorf(plugin.TokenExpired, "the token ended at %s", rec.Expires.Format(time.RFC3339))
	case !rec.Unbounded && len(rec.Held) >= int(rec.UsesLeft):
		return ledger.Hold{}, plugin.Errorf(plugin.TokenReserved, "another node is joining with this token, until %s at most",
			rec.Held[0].Until.Format(time.RFC3339))
	case len(rec.Held) >= 100: // the line has to fit
		return ledger.Hold{}, plugin.Errorf(plugin.TokenReserved, "%d nodes hold this token just now", len(rec.Held))
	}
	h := ledger.Hold{ID: rec.Hash.ID().String() + "." + rand.Text(), Claimant: r.Claimant, Until: until}
	rec.Held = append(rec.Held, h)
	return h, nil
}

// sameClaimant compares keys where there are any: a node may change its
// address while it joins.
func sameClaimant(a, b tokens.Claimant) bool {
	if a.KeyFingerprint != "" || b.KeyFingerprint != "" {
		return subtle.ConstantTimeCompare([]byte(a.KeyFingerprint), []byte(b.KeyFingerprint)) == 1
	}
	return a == b
}

// Commit spends the use that a reservation holds; again is no error.
func (p *File) Commit(ctx context.Context, _ plugin.Call, id string) error {
	return p.settle(ctx, id, func(rec *ledger.Record, i int, now time.Time) error {
		if i < 0 || !now.Before(rec.Held[i].Until) {
			return plugin.Errorf(plugin.ReservationEnded, "the reservation has ended: the token is not spent")
		}
		rec.Done = append(rec.Done, rec.Held[i].ID)
		rec.Done = rec.Done[max(0, len(rec.Done)-keptDone):]
		rec.Held = slices.Delete(rec.Held, i, i+1)
		if !rec.Unbounded {
			if rec.UsesLeft--; rec.UsesLeft == 0 {
				rec.Ended = now.UTC()
			}
		}
		return nil
	}, nil)
}

// Release gives the use back. One that has ended is given back already.
func (p *File) Release(ctx context.Context, _ plugin.Call, id string) error {
	spent := plugin.Errorf(plugin.NotPossible, "the use of this reservation is spent")
	return p.settle(ctx, id, func(rec *ledger.Record, i int, _ time.Time) error {
		if i < 0 {
			return errUnchanged
		}
		rec.Held = slices.Delete(rec.Held, i, i+1)
		return nil
	}, spent)
}

// errUnchanged says that there is nothing to write.
const errUnchanged = plugin.Reason("UNCHANGED")

// settle changes the token that a reservation holds. done is the answer where
// that was committed before.
func (p *File) settle(ctx context.Context, id string, change func(rec *ledger.Record, held int, now time.Time) error, done error) error {
	_, l, err := p.open()
	if err != nil {
		return err
	}
	ended := plugin.Errorf(plugin.ReservationEnded, "the reservation is unknown or has ended")
	head, _, _ := strings.Cut(id, ".")
	token, ok := ledger.ParseID(head)
	if !ok {
		return ended
	}
	now := p.now()
	is := func(other string) bool { return subtle.ConstantTimeCompare([]byte(other), []byte(id)) == 1 }
	return l.Change(ctx, now, func(tx *ledger.Tx) error {
		rec, err := tx.Find(token)
		if err != nil {
			return err
		}
		if rec == nil {
			return ended
		}
		if slices.ContainsFunc(rec.Done, is) {
			return done
		}
		err = change(rec, slices.IndexFunc(rec.Held, func(h ledger.Hold) bool { return is(h.ID) }), now)
		if err == errUnchanged {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.Put(rec)
	})
}
