package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/state"
)

// storeName is the file of all authorities, in the state folder.
const storeName = "acme.json"

// corp keeps intermediates in its state folder.
type corp struct {
	version string

	mu  sync.Mutex
	dir *state.Dir
}

var _ certs.Plugin = (*corp)(nil)

// Describe asks for no grant: the plugin changes nothing on a node.
func (c *corp) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Identity:  plugin.Identity{Kind: plugin.KindCerts, Name: "acme-corp", Version: c.version, Publisher: "Acme Corp"},
		Contracts: []string{plugin.Contract(plugin.KindCerts)},
	}, nil
}

// Configure opens the state folder.
func (c *corp) Configure(_ context.Context, cfg plugin.Configuration) error {
	dir, err := state.Open(cfg.StateDir)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.dir = dir
	c.mu.Unlock()
	return nil
}

func (c *corp) folder() (*state.Dir, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == nil {
		return nil, plugin.Errorf(plugin.NotPossible, "asked before Configure")
	}
	return c.dir, nil
}

// Health reads the state.
func (c *corp) Health(context.Context) error {
	dir, err := c.folder()
	if err != nil {
		return err
	}
	return dir.Read(storeName, &store{})
}

// Forget drops every key.
func (c *corp) Forget(ctx context.Context, _ plugin.Call) error {
	dir, err := c.folder()
	if err != nil {
		return err
	}
	return dir.Clear(ctx)
}

// Bootstrap makes an authority of a generation, or finds it.
func (c *corp) Bootstrap(ctx context.Context, r certs.BootstrapRequest) (certs.Authority, error) {
	if !slices.Contains(certs.Names(), r.Authority) {
		return certs.Authority{}, unknown(r.Authority)
	}
	dir, err := c.folder()
	if err != nil {
		return certs.Authority{}, err
	}
	all, made := store{}, (*authority)(nil)
	err = dir.Update(ctx, storeName, &all, func() error {
		if made = all.find(r.Authority, r.Generation); made != nil {
			return nil
		}
		made, err = newAuthority(r.Authority, r.Generation, r.Now)
		all = append(all, made)
		return err
	})
	if err != nil {
		return certs.Authority{}, err
	}
	return made.described(dir.Path(storeName)), nil
}

func unknown(authority string) error {
	return plugin.Errorf(plugin.AuthorityUnknown, "Acme Corp has no authority %q", authority)
}

// Authorities lists the newest generation of each first.
func (c *corp) Authorities(_ context.Context, names []string) ([]certs.Authority, error) {
	dir, err := c.folder()
	if err != nil {
		return nil, err
	}
	all := store{}
	if err := dir.Read(storeName, &all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *authority) int { return int(b.Generation) - int(a.Generation) })
	var out []certs.Authority
	for _, a := range all {
		if len(names) == 0 || slices.Contains(names, a.Name) {
			out = append(out, a.described(dir.Path(storeName)))
		}
	}
	return out, nil
}

// Sign signs a batch; the same question of the same operation gets the same
// certificates.
func (c *corp) Sign(ctx context.Context, r certs.SignRequest) ([]certs.SignResult, error) {
	dir, err := c.folder()
	if err != nil {
		return nil, err
	}
	asked, err := json.Marshal(r.Requests)
	if err != nil {
		return nil, err
	}
	question := fmt.Sprintf("sign %x", sha256.Sum256(asked))
	return state.Once(ctx, dir, r.Now, r.Call.OperationID, question, func(l *state.Locked) ([]certs.SignResult, error) {
		all := store{}
		if err := l.Read(storeName, &all); err != nil {
			return nil, err
		}
		out := make([]certs.SignResult, 0, len(r.Requests))
		for _, q := range r.Requests {
			out = append(out, all.answer(q, r.Now))
		}
		return out, nil
	})
}

// answer is one result of a batch.
func (s store) answer(q certs.CertificateRequest, now time.Time) certs.SignResult {
	refuse := func(err error) certs.SignResult {
		return certs.SignResult{ID: q.ID, Refused: &certs.Refused{Reason: plugin.ReasonOf(err), Message: err.Error()}}
	}
	a := s.find(q.Authority, q.Generation)
	if a == nil {
		return refuse(unknown(q.Authority))
	}
	g, err := a.sign(q, now)
	if err != nil {
		return refuse(err)
	}
	return certs.SignResult{ID: q.ID, Granted: g}
}

// Retire drops a generation; again is no error.
func (c *corp) Retire(ctx context.Context, r certs.RetireRequest) error {
	if !slices.Contains(certs.Names(), r.Authority) {
		return unknown(r.Authority)
	}
	dir, err := c.folder()
	if err != nil {
		return err
	}
	all := store{}
	return dir.Update(ctx, storeName, &all, func() error {
		all = slices.DeleteFunc(all, func(a *authority) bool { return a.Name == r.Authority && a.Generation == r.Generation })
		return nil
	})
}
