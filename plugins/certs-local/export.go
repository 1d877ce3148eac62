package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/seal"
	"mk8s.io/mk/sdk/state"
)

const exportFormat = "mk.certs-local.v1"

// PrepareImport makes a key to seal authorities to.
func (p *Local) PrepareImport(ctx context.Context, call plugin.Call) ([]byte, error) {
	dir, err := p.state()
	if err != nil {
		return nil, err
	}
	return seal.PrepareImport(ctx, dir, time.Now(), call)
}

// Export seals all authorities with their keys.
func (p *Local) Export(ctx context.Context, call plugin.Call, recipient, binding []byte) (plugin.Sealed, error) {
	dir, err := p.state()
	if err != nil {
		return plugin.Sealed{}, err
	}
	question := "export " + string(recipient) + string(binding)
	return state.Once(ctx, dir, time.Now(), call.OperationID, fmt.Sprintf("%x", question), func(l *state.Locked) (plugin.Sealed, error) {
		all := &store{}
		if err := l.Read(storeName, all); err != nil {
			return plugin.Sealed{}, err
		}
		data, err := json.Marshal(all)
		if err != nil {
			return plugin.Sealed{}, fmt.Errorf("export the authorities: %w", err)
		}
		sealed, err := seal.Seal(recipient, binding, data)
		if err != nil {
			return plugin.Sealed{}, plugin.Errorf(plugin.BadArgument, "export the authorities: %v", err)
		}
		return plugin.Sealed{Data: sealed, Format: exportFormat}, nil
	})
}

// Import takes over authorities. An authority of the same name and generation
// that is here already must be the same one.
func (p *Local) Import(ctx context.Context, call plugin.Call, sealed plugin.Sealed, binding []byte) error {
	if sealed.Format != exportFormat {
		return plugin.Errorf(plugin.Unsupported, "authorities in the format %.80q cannot be read, only %s", sealed.Format, exportFormat)
	}
	dir, err := p.state()
	if err != nil {
		return err
	}
	_, err = state.Once(ctx, dir, time.Now(), call.OperationID, "import", func(l *state.Locked) (bool, error) {
		data, err := seal.OpenImport(l, sealed.Data, binding)
		if err != nil {
			return false, err
		}
		all := store{}
		if err := l.Read(storeName, &all); err != nil {
			return false, err
		}
		var other store
		if err := json.Unmarshal(data, &other); err != nil {
			return false, plugin.Errorf(plugin.BadArgument, "import the authorities: %v", err)
		}
		if err := all.merge(&other); err != nil {
			return false, err
		}
		return true, l.Write(storeName, all)
	})
	return err
}

// merge takes over what is whole and not in contradiction.
func (s *store) merge(other *store) error {
	if s.Authorities == nil {
		s.Authorities = map[string][]*authority{}
	}
	for name, list := range other.Authorities {
		for _, a := range list {
			if err := a.check(name); err != nil {
				return err
			}
			mine := s.find(name, a.Generation)
			if mine == nil {
				s.Authorities[name] = append(s.Authorities[name], a)
			} else if !bytes.Equal(mine.Certificate, a.Certificate) {
				return plugin.Errorf(plugin.NotPossible, "authority %s %d is here already, and another one", name, a.Generation)
			}
		}
	}
	return nil
}

// check tells whether the parts of an authority belong together.
func (a *authority) check(name string) error {
	if a == nil || a.Name != name || a.Generation == 0 || !slices.Contains(certs.Names(), name) {
		return plugin.Errorf(plugin.BadArgument, "import the authorities: %.80q is none", name)
	}
	cert, key, err := a.open()
	if err != nil {
		return plugin.Errorf(plugin.BadArgument, "import the authorities: %v", err)
	}
	public, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool })
	if !cert.IsCA || !ok || !public.Equal(cert.PublicKey) {
		return plugin.Errorf(plugin.BadArgument, "import the authorities: key and certificate of %s %d do not belong together", name, a.Generation)
	}
	return nil
}
