package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/state"
)

// Local keeps authorities in a state folder. Everything that changes happens
// under the folder's lock, because several processes may run at once.
type Local struct {
	version string

	mu   sync.Mutex
	dir  *state.Dir
	life time.Duration // the longest of a leaf
	text []byte        // of the file of authorities, when it was last taken apart
	all  *store        // what it said; nobody changes it
}

var (
	_ certs.Plugin      = (*Local)(nil)
	_ certs.CrossSigner = (*Local)(nil)
	_ plugin.Exporter   = (*Local)(nil)
)

// New makes the plugin. It reads nothing before Configure.
func New(version string) *Local { return &Local{version: version} }

// Describe says what this plugin is. It needs no grant: it changes nothing on
// a node.
func (p *Local) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Identity:     plugin.Identity{Kind: plugin.KindCerts, Name: "local", Version: p.version, Publisher: "mk"},
		Contracts:    []string{plugin.Contract(plugin.KindCerts)},
		Capabilities: []string{certs.CapabilityCrossSign},
		Settings:     []byte(schema),
		Exportable:   true,
	}, nil
}

// Configure opens the state folder.
func (p *Local) Configure(_ context.Context, c plugin.Configuration) error {
	life, err := parseSettings(c.Settings)
	if err != nil {
		return err
	}
	dir, err := state.Open(c.StateDir)
	if err != nil {
		return fmt.Errorf("open the state folder: %w", err)
	}
	p.mu.Lock()
	p.dir, p.life = dir, life
	p.mu.Unlock()
	return nil
}

// errNotConfigured is an order of questions that the host never asks in.
var errNotConfigured = errors.New("asked before Configure")

func (p *Local) state() (*state.Dir, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == nil {
		return nil, errNotConfigured
	}
	return p.dir, nil
}

// longest is the longest life that an authority grants a leaf.
func (p *Local) longest(a *authority) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(a.maxLife(), p.life)
}

// described is what others may know of an authority.
func (p *Local) described(a *authority, where string) certs.Authority {
	out := a.described(where)
	out.MaxLife = p.longest(a)
	return out
}

// Health reads the authorities.
func (p *Local) Health(context.Context) error {
	_, _, err := p.load()
	return err
}

// Forget drops every key.
func (p *Local) Forget(ctx context.Context, _ plugin.Call) error {
	dir, err := p.state()
	if err != nil {
		return err
	}
	defer p.drop()
	return dir.Clear(ctx)
}

// Bootstrap makes an authority of a generation, or finds it.
func (p *Local) Bootstrap(ctx context.Context, r certs.BootstrapRequest) (certs.Authority, error) {
	if !slices.Contains(certs.Names(), r.Authority) {
		return certs.Authority{}, unknownAuthority(r.Authority)
	}
	if r.Generation == 0 {
		return certs.Authority{}, plugin.Errorf(plugin.BadArgument, "generations count from 1")
	}
	dir, err := p.state()
	if err != nil {
		return certs.Authority{}, err
	}
	var made *authority
	all := store{}
	err = dir.Update(ctx, storeName, &all, func() error {
		if all.Authorities == nil {
			all.Authorities = map[string][]*authority{}
		}
		if made = all.find(r.Authority, r.Generation); made != nil {
			return nil
		}
		made, err = newAuthority(r.Authority, r.Generation, r.KeyType, r.Now)
		if err != nil {
			return err
		}
		all.Authorities[r.Authority] = append(all.Authorities[r.Authority], made)
		return nil
	})
	if err != nil {
		return certs.Authority{}, err
	}
	return p.described(made, dir.Path(storeName)), nil
}

func unknownAuthority(name string) error {
	return plugin.Errorf(plugin.AuthorityUnknown, "authority %q is unknown: there are %s", name, strings.Join(certs.Names(), ", "))
}

func (p *Local) load() (*store, string, error) {
	dir, err := p.state()
	if err != nil {
		return nil, "", err
	}
	all := &store{}
	if err := dir.Read(storeName, all); err != nil {
		return nil, "", err
	}
	return all, filepath.Clean(dir.Path(storeName)), nil
}

// Authorities says what is trusted, the newest generation of each first.
func (p *Local) Authorities(_ context.Context, names []string) ([]certs.Authority, error) {
	all, where, err := p.load()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		names = certs.Names()
	}
	var out []certs.Authority
	for _, n := range names {
		for _, a := range slices.Backward(all.sorted(n)) {
			out = append(out, p.described(a, where))
		}
	}
	return out, nil
}

// Sign signs a batch. The same operation asking the same gets the same
// certificates.
func (p *Local) Sign(ctx context.Context, r certs.SignRequest) ([]certs.SignResult, error) {
	dir, err := p.state()
	if err != nil {
		return nil, err
	}
	now := r.Now
	if now.IsZero() {
		now = time.Now()
	}
	return state.OnceUnsynced(ctx, dir, now, r.Call.OperationID, "sign "+digest(r.Requests), func(l *state.Locked) ([]certs.SignResult, error) {
		all, err := p.current(l)
		if err != nil {
			return nil, err
		}
		out := make([]certs.SignResult, len(r.Requests))
		for i, c := range r.Requests {
			out[i] = all.sign(c, now, p.longest)
		}
		return out, nil
	})
}

// current are the authorities as they are now. Their file is read each time,
// since other processes write it, and taken apart when it has changed.
func (p *Local) current(l *state.Locked) (*store, error) {
	text, err := l.Text(storeName)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all != nil && bytes.Equal(p.text, text) {
		return p.all, nil
	}
	all := &store{}
	if text != nil {
		if err := json.Unmarshal(text, all); err != nil {
			return nil, fmt.Errorf("read the authorities: %w", err)
		}
	}
	p.text, p.all = text, all
	return all, nil
}

// drop forgets the keys in memory.
func (p *Local) drop() {
	p.mu.Lock()
	p.text, p.all = nil, nil
	p.mu.Unlock()
}

// Retire drops the key and the certificate of a generation; again is no error.
func (p *Local) Retire(ctx context.Context, r certs.RetireRequest) error {
	if !slices.Contains(certs.Names(), r.Authority) {
		return unknownAuthority(r.Authority)
	}
	dir, err := p.state()
	if err != nil {
		return err
	}
	defer p.drop()
	all := store{}
	return dir.Update(ctx, storeName, &all, func() error {
		if list, ok := all.Authorities[r.Authority]; ok {
			all.Authorities[r.Authority] = slices.DeleteFunc(list, func(a *authority) bool { return a.Generation == r.Generation })
		}
		return nil
	})
}

// CrossSign has an old generation vouch for a new one. The same operation
// gets the same certificate.
func (p *Local) CrossSign(ctx context.Context, r certs.CrossSignRequest) ([]byte, error) {
	dir, err := p.state()
	if err != nil {
		return nil, err
	}
	now := r.Now
	if now.IsZero() {
		now = time.Now()
	}
	question := fmt.Sprintf("cross-sign %s %d %x", r.Authority, r.Generation, sha256.Sum256(r.Certificate))
	return state.Once(ctx, dir, now, r.Call.OperationID, question, func(l *state.Locked) ([]byte, error) {
		all := &store{}
		if err := l.Read(storeName, all); err != nil {
			return nil, err
		}
		a := all.find(r.Authority, r.Generation)
		if a == nil {
			return nil, plugin.Errorf(plugin.AuthorityUnknown, "authority %q has no generation %d", r.Authority, r.Generation)
		}
		return a.crossSign(r.Certificate, now)
	})
}
