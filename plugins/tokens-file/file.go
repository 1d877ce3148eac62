package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"mk8s.io/mk/plugins/tokens-file/ledger"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/state"
	"mk8s.io/mk/sdk/tokens"
)

// File keeps tokens in a state folder. Several processes of it may run at
// once.
type File struct {
	version string
	now     func() time.Time

	mu     sync.Mutex
	dir    *state.Dir
	ledger *ledger.Ledger
}

var _ tokens.Plugin = (*File)(nil)

// New makes the plugin. It reads nothing before Configure.
func New(version string) *File { return &File{version: version, now: time.Now} }

// Describe says what this plugin is. It needs no grant: it changes nothing on
// a node.
func (p *File) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Identity:   plugin.Identity{Kind: plugin.KindTokens, Name: "file", Version: p.version, Publisher: "mk"},
		Contracts:  []string{plugin.Contract(plugin.KindTokens)},
		Exportable: true,
	}, nil
}

// Configure opens the state folder.
func (p *File) Configure(_ context.Context, c plugin.Configuration) error {
	dir, err := state.Open(c.StateDir)
	if err != nil {
		return fmt.Errorf("open the state folder: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.ledger
	p.dir, p.ledger = dir, ledger.Open(dir)
	if old != nil {
		return old.Close()
	}
	return nil
}

// errNotConfigured is an order of questions that the host never asks in.
var errNotConfigured = errors.New("asked before Configure")

func (p *File) open() (*state.Dir, *ledger.Ledger, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == nil {
		return nil, nil, errNotConfigured
	}
	return p.dir, p.ledger, nil
}

// Health reads all tokens.
func (p *File) Health(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, l, err := p.open()
	if err != nil {
		return err
	}
	_, _, err = l.All(p.now())
	return err
}

// Forget ends every token and credential.
func (p *File) Forget(ctx context.Context, _ plugin.Call) error {
	_, l, err := p.open()
	if err != nil {
		return err
	}
	return l.Forget(ctx)
}

const (
	secretName = "secret.json"
	secretSize = sha256.Size
)

// secret is what answers are derived from that must be the same when they are
// asked again, so that no token has to be kept in clear for that.
type secret struct {
	Key []byte `json:"key"`
}

func (p *File) secret(ctx context.Context, dir *state.Dir) (*secret, error) {
	s := &secret{}
	if err := dir.Read(secretName, s); err != nil || len(s.Key) > 0 {
		return s, err
	}
	err := dir.Update(ctx, secretName, s, func() error {
		if len(s.Key) == 0 { // nobody was faster
			s.Key = make([]byte, secretSize)
			rand.Read(s.Key) //nolint:errcheck // never fails
		}
		return nil
	})
	return s, err
}

// derive answers 32 bytes that only who has the key can tell.
func (s *secret) derive(label, from string) []byte {
	h := hmac.New(sha256.New, s.Key)
	fmt.Fprintf(h, "%s\x00%s", label, from)
	return h.Sum(nil)
}
