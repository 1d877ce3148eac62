package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

func op(id string) plugin.Call { return plugin.Call{OperationID: id} }

func issue(uses uint32) tokens.IssueRequest {
	return tokens.IssueRequest{Call: op("issue"), Purpose: tokens.Join, Role: plugin.RoleWorker, Lifetime: time.Hour, Uses: uses}
}

func reserve(id, token, key string) tokens.ReserveRequest {
	return tokens.ReserveRequest{Call: op(id), Token: token, Claimant: tokens.Claimant{KeyFingerprint: key},
		Purpose: tokens.Join, Lease: time.Minute}
}

func (s *suite) tokens() {
	s.issued("tokens/issue-ten-times-is-one-token", func(ctx context.Context, p tokens.Plugin, first tokens.Issued) error {
		for range 9 {
			again, err := p.Issue(ctx, issue(1))
			if err != nil {
				return err
			}
			if again.Token != first.Token || again.ID != first.ID {
				return errors.New("the same operation got another token")
			}
		}
		list, err := p.List(ctx, false)
		if err != nil {
			return err
		}
		return want(len(list) == 1, "%d tokens are listed, one was issued", len(list))
	})
	s.issued("tokens/commit-spends", func(ctx context.Context, p tokens.Plugin, i tokens.Issued) error {
		v, err := p.Reserve(ctx, reserve("a", i.Token, "key-a"))
		if err != nil {
			return err
		}
		for range 10 {
			if err := p.Commit(ctx, op("a-commit"), v.ID); err != nil {
				return fmt.Errorf("committing again: %w", err)
			}
		}
		_, err = p.Reserve(ctx, reserve("b", i.Token, "key-b"))
		return refused(err, plugin.TokenUsed)
	})
	s.issued("tokens/release-gives-back", func(ctx context.Context, p tokens.Plugin, i tokens.Issued) error {
		v, err := p.Reserve(ctx, reserve("a", i.Token, "key-a"))
		if err != nil {
			return err
		}
		_, err = p.Reserve(ctx, reserve("b", i.Token, "key-b"))
		if err := refused(err, plugin.TokenReserved); err != nil {
			return err
		}
		if err := p.Release(ctx, op("a-release"), v.ID); err != nil {
			return err
		}
		_, err = p.Reserve(ctx, reserve("c", i.Token, "key-b"))
		return err
	})
	s.issued("tokens/same-claimant-prolongs", func(ctx context.Context, p tokens.Plugin, i tokens.Issued) error {
		first, err := p.Reserve(ctx, reserve("a", i.Token, "key-a"))
		if err != nil {
			return err
		}
		again, err := p.Reserve(ctx, reserve("a2", i.Token, "key-a"))
		if err != nil {
			return err
		}
		return want(again.ID == first.ID && !again.Until.Before(first.Until), "the reservation was not prolonged")
	})
	s.issued("tokens/64-claims-one-winner", oneWinner)
	s.issued("tokens/unknown-and-revoked", func(ctx context.Context, p tokens.Plugin, i tokens.Issued) error {
		_, err := p.Reserve(ctx, reserve("x", i.Token+"x", "key"))
		if err := refused(err, plugin.TokenUnknown); err != nil {
			return err
		}
		if err := p.Revoke(ctx, op("revoke"), i.ID); err != nil {
			return err
		}
		_, err = p.Reserve(ctx, reserve("y", i.Token, "key"))
		return want(err != nil, "a revoked token can be reserved")
	})
	s.running("tokens/static-keeps-order-and-answers", func(ctx context.Context, c Instance) error {
		asked := []tokens.Credential{{User: "admin", UID: "1", Groups: []string{"system:masters"}}, {User: "scheduler", UID: "2"}}
		first, err := c.Tokens().Static(ctx, op("static"), asked)
		if err != nil {
			return err
		}
		again, err := c.Tokens().Static(ctx, op("static"), asked)
		if err != nil {
			return err
		}
		for i := range asked {
			if first[i].User != asked[i].User || first[i].Token == "" || first[i].Token != again[i].Token {
				return fmt.Errorf("credential %d: user %q", i+1, first[i].User)
			}
		}
		return nil
	})
}

// issued runs a case with one token of one use.
func (s *suite) issued(name string, run func(context.Context, tokens.Plugin, tokens.Issued) error) {
	s.running(name, func(ctx context.Context, c Instance) error {
		i, err := c.Tokens().Issue(ctx, issue(1))
		if err != nil {
			return err
		}
		return run(ctx, c.Tokens(), i)
	})
}

func oneWinner(ctx context.Context, p tokens.Plugin, i tokens.Issued) error {
	var wg sync.WaitGroup
	errs := make([]error, 64)
	for n := range errs {
		wg.Go(func() {
			_, errs[n] = p.Reserve(ctx, reserve(fmt.Sprint("claim-", n), i.Token, fmt.Sprint("key-", n)))
		})
	}
	wg.Wait()
	winners := 0
	for _, err := range errs {
		if err == nil {
			winners++
			continue
		}
		if err := refused(err, plugin.TokenReserved); err != nil {
			return err
		}
	}
	return want(winners == 1, "%d of 64 claimants hold a token of one use", winners)
}
