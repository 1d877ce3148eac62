package conformance_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"testing"
	"time"

	"mk8s.io/mk/sdk/conformance"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
	"mk8s.io/mk/sdk/state"
	"mk8s.io/mk/sdk/tokens"
)

func TestATokensPluginConforms(t *testing.T) {
	t.Parallel()
	sdktest.Conformance(t, func() plugin.Plugin { return &keeper{} }, "", nil)
}

// TestTheSuiteFindsFaults breaks the same plugin and expects a failed case.
func TestTheSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	target := conformance.Target{
		TempDir: func() (string, error) { return os.MkdirTemp(root, "state-") },
		Start: func(context.Context) (conformance.Instance, func(), error) {
			return conformance.Instance{Client: sdktest.InMemory(t, &keeper{careless: true})}, func() {}, nil
		},
	}
	failed := collector{ctx: t.Context(), errs: map[string]error{}}
	if err := conformance.Run(t.Context(), failed, target); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tokens/64-claims-one-winner", "tokens/commit-spends", "tokens/release-gives-back"} {
		if failed.errs[name] == nil {
			t.Errorf("%s passed with a plugin that lets everyone reserve", name)
		}
	}
}

type collector struct {
	ctx  context.Context
	errs map[string]error
}

func (c collector) Case(name string, run func(context.Context) error) { c.errs[name] = run(c.ctx) }

// keeper keeps tokens the simplest way that conforms. It is no example: at
// rest tokens should be hashes.
type keeper struct {
	dir      *state.Dir
	careless bool
}

type kept struct {
	ID, Token, Holder, Reservation string
	Used, Revoked                  bool
}

func (*keeper) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{Identity: plugin.Identity{Kind: plugin.KindTokens, Name: "keeper", Version: "1.0.0"},
		Contracts: []string{plugin.Contract(plugin.KindTokens)}}, nil
}

func (k *keeper) Configure(_ context.Context, c plugin.Configuration) (err error) {
	k.dir, err = state.Open(c.StateDir)
	return err
}
func (*keeper) Health(context.Context) error                      { return nil }
func (k *keeper) Forget(ctx context.Context, _ plugin.Call) error { return k.dir.Clear(ctx) }
func (k *keeper) Revoke(ctx context.Context, _ plugin.Call, id string) error {
	return k.change(ctx, func(all map[string]*kept) error { all[id].Revoked = true; return nil })
}

func (k *keeper) change(ctx context.Context, f func(all map[string]*kept) error) error {
	all := map[string]*kept{}
	return k.dir.Update(ctx, "tokens.json", &all, func() error { return f(all) })
}

func (k *keeper) Issue(ctx context.Context, r tokens.IssueRequest) (tokens.Issued, error) {
	return state.Once(ctx, k.dir, time.Now(), r.Call.OperationID, "Issue", func(l *state.Locked) (tokens.Issued, error) {
		all := map[string]*kept{}
		if err := l.Read("tokens.json", &all); err != nil {
			return tokens.Issued{}, err
		}
		v := &kept{ID: rand.Text()[:8], Token: rand.Text() + rand.Text()}
		all[v.ID] = v
		return tokens.Issued{Token: v.Token, ID: v.ID}, l.Write("tokens.json", all)
	})
}

func (k *keeper) List(ctx context.Context, _ bool) (out []tokens.Token, err error) {
	err = k.change(ctx, func(all map[string]*kept) error {
		for _, v := range all {
			out = append(out, tokens.Token{ID: v.ID, Purpose: tokens.Join})
		}
		return nil
	})
	return out, err
}

func (k *keeper) Reserve(ctx context.Context, r tokens.ReserveRequest) (out tokens.Reservation, err error) {
	err = k.change(ctx, func(all map[string]*kept) error {
		for _, v := range all {
			if v.Token != r.Token || v.Revoked {
				continue
			}
			if v.Used && !k.careless {
				return plugin.Errorf(plugin.TokenUsed, "used")
			}
			if v.Holder != "" && v.Holder != r.Claimant.KeyFingerprint && !k.careless {
				return plugin.Errorf(plugin.TokenReserved, "held")
			}
			v.Holder, v.Reservation = r.Claimant.KeyFingerprint, "r-"+v.ID
			out = tokens.Reservation{ID: v.Reservation, TokenID: v.ID, Purpose: r.Purpose, Until: time.Now().Add(r.Lease)}
			return nil
		}
		return plugin.Errorf(plugin.TokenUnknown, "unknown")
	})
	return out, err
}

func (k *keeper) finish(ctx context.Context, id string, used bool) error {
	return k.change(ctx, func(all map[string]*kept) error {
		for _, v := range all {
			if v.Reservation == id {
				v.Used, v.Holder = v.Used || used, ""
				return nil
			}
		}
		return plugin.Errorf(plugin.ReservationEnded, "ended")
	})
}

func (k *keeper) Commit(ctx context.Context, _ plugin.Call, id string) error {
	return k.finish(ctx, id, true)
}

func (k *keeper) Release(ctx context.Context, _ plugin.Call, id string) error {
	return k.finish(ctx, id, false)
}

func (*keeper) Static(_ context.Context, _ plugin.Call, list []tokens.Credential) ([]tokens.Credential, error) {
	for i := range list {
		list[i].Token = fmt.Sprint("token of ", list[i].User)
	}
	return list, nil
}
