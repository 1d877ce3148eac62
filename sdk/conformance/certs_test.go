package conformance_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
	"mk8s.io/mk/sdk/state"
)

func TestACertsPluginConforms(t *testing.T) {
	t.Parallel()
	sdktest.Conformance(t, func() plugin.Plugin { return &signer{} }, "", nil)
}

// signer is the smallest certs plugin that conforms.
type signer struct{ dir *state.Dir }

type root struct{ Key, Certificate []byte }

func (*signer) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{Identity: plugin.Identity{Kind: plugin.KindCerts, Name: "signer", Version: "1.0.0"},
		Contracts: []string{plugin.Contract(plugin.KindCerts)}}, nil
}

func (s *signer) Configure(_ context.Context, c plugin.Configuration) (err error) {
	s.dir, err = state.Open(c.StateDir)
	return err
}

func (*signer) Health(context.Context) error                      { return nil }
func (s *signer) Forget(ctx context.Context, _ plugin.Call) error { return s.dir.Clear(ctx) }
func (*signer) Retire(context.Context, certs.RetireRequest) error { return nil }
func (s *signer) file(authority string) string                    { return authority + ".json" }

func (s *signer) Authorities(context.Context, []string) ([]certs.Authority, error) { return nil, nil }

func (s *signer) Bootstrap(ctx context.Context, r certs.BootstrapRequest) (certs.Authority, error) {
	if !slices.Contains(certs.Names(), r.Authority) {
		return certs.Authority{}, plugin.Errorf(plugin.AuthorityUnknown, "there is no authority %q", r.Authority)
	}
	return state.Once(ctx, s.dir, r.Now, r.Call.OperationID, "Bootstrap", func(l *state.Locked) (certs.Authority, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return certs.Authority{}, err
		}
		ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: r.Authority}, NotBefore: r.Now.Add(-time.Hour),
			NotAfter: r.Now.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
		if err != nil {
			return certs.Authority{}, err
		}
		private, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return certs.Authority{}, err
		}
		bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		return certs.Authority{Name: r.Authority, Generation: r.Generation, ServerBundle: bundle, ClientBundle: bundle},
			l.Write(s.file(r.Authority), root{Key: private, Certificate: der})
	})
}

func (s *signer) Sign(ctx context.Context, r certs.SignRequest) ([]certs.SignResult, error) {
	return state.Once(ctx, s.dir, r.Now, r.Call.OperationID, "Sign", func(l *state.Locked) ([]certs.SignResult, error) {
		var out []certs.SignResult
		for _, c := range r.Requests {
			var ca root
			if err := l.Read(s.file(c.Authority), &ca); err != nil {
				return nil, err
			}
			leaf, err := ca.sign(c, r.Now)
			if err != nil {
				return nil, err
			}
			out = append(out, certs.SignResult{ID: c.ID, Granted: &certs.Granted{Certificate: leaf}})
		}
		return out, nil
	})
}

func (r root) sign(c certs.CertificateRequest, now time.Time) ([]byte, error) {
	block, _ := pem.Decode(c.CSR)
	if block == nil {
		return nil, plugin.Errorf(plugin.BadArgument, "the CSR of %s is not PEM", c.ID)
	}
	csr, err := x509.ParseCertificateRequest(bytes.Clone(block.Bytes))
	if err != nil {
		return nil, plugin.Errorf(plugin.BadArgument, "the CSR of %s: %v", c.ID, err)
	}
	parent, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(r.Key)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now, NotAfter: now.Add(c.Life),
		Subject: pkix.Name{CommonName: c.CommonName, Organization: c.Organizations}, DNSNames: c.DNSNames,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, csr.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
