package conformance

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
)

func (s *suite) certs() {
	s.running("certs/bootstrap-ten-times-is-one-authority", func(ctx context.Context, c Instance) error {
		now := time.Now()
		first, err := bootstrap(ctx, c.Certs(), certs.Kubernetes, now)
		for range 9 {
			again, againErr := bootstrap(ctx, c.Certs(), certs.Kubernetes, now)
			if err = errors.Join(err, againErr); err != nil {
				return err
			}
			if !bytes.Equal(again.ServerBundle, first.ServerBundle) {
				return errors.New("the same operation got another authority")
			}
		}
		return err
	})
	s.running("certs/signs-what-was-asked", func(ctx context.Context, c Instance) error {
		for _, name := range certs.Names() {
			if err := signs(ctx, c.Certs(), name); err != nil {
				return fmt.Errorf("authority %s: %w", name, err)
			}
		}
		return nil
	})
	s.running("certs/different-roots", func(ctx context.Context, c Instance) error {
		seen := map[string]string{}
		for _, name := range certs.Names() {
			a, err := bootstrap(ctx, c.Certs(), name, time.Now())
			if err != nil {
				return err
			}
			if other, ok := seen[string(a.ClientBundle)]; ok {
				return fmt.Errorf("%s and %s trust the same clients", other, name)
			}
			seen[string(a.ClientBundle)] = name
		}
		return nil
	})
	s.running("certs/unknown-authority", func(ctx context.Context, c Instance) error {
		_, err := bootstrap(ctx, c.Certs(), "no-such-authority", time.Now())
		return refused(err, plugin.AuthorityUnknown)
	})
	s.running("certs/optional-questions", func(ctx context.Context, c Instance) error {
		_, cross := c.CrossSigner().CrossSign(ctx, certs.CrossSignRequest{Call: op("cross")})
		revoke := c.Revoker().Revoke(ctx, certs.RevokeRequest{Call: op("revoke")})
		return errors.Join(optional(s.has(certs.CapabilityCrossSign), cross), optional(s.has(certs.CapabilityRevoke), revoke))
	})
}

// optional expects UNSUPPORTED exactly where a capability is not declared.
func optional(declared bool, err error) error {
	if !declared {
		return refused(err, plugin.Unsupported)
	}
	return want(!errors.Is(err, plugin.Unsupported), "declared, but unsupported")
}

func bootstrap(ctx context.Context, p certs.Plugin, name string, now time.Time) (certs.Authority, error) {
	return p.Bootstrap(ctx, certs.BootstrapRequest{Call: op("bootstrap-" + name), Authority: name, Generation: 1,
		KeyType: "ecdsa-p256", Now: now})
}

func signs(ctx context.Context, p certs.Plugin, authority string) error {
	now := time.Now()
	a, err := bootstrap(ctx, p, authority, now)
	if err != nil {
		return err
	}
	r := certs.SignRequest{Call: op("sign-" + authority), Now: now}
	keys := map[string]*ecdsa.PrivateKey{}
	for _, id := range []string{"second", "first"} { // the order asked is the order answered
		key, csr, err := request(id)
		if err != nil {
			return err
		}
		keys[id] = key
		r.Requests = append(r.Requests, certs.CertificateRequest{ID: id, CSR: csr, Authority: authority, Profile: "conformance",
			Life: 24 * time.Hour, CommonName: id, Organizations: []string{"conformance"}, DNSNames: []string{id + ".example"},
			KeyUsages: []string{certs.DigitalSignature}, ExtendedKeyUsages: []string{certs.ServerAuth, certs.ClientAuth}})
	}
	results, err := p.Sign(ctx, r)
	if err != nil {
		return err
	}
	again, err := p.Sign(ctx, r)
	if err != nil {
		return fmt.Errorf("asking again: %w", err)
	}
	for i, result := range results {
		if result.Granted == nil {
			continue // pending and refused are answers, too
		}
		if again[i].Granted == nil || !bytes.Equal(again[i].Granted.Certificate, result.Granted.Certificate) {
			return errors.New("the same operation got another certificate")
		}
		if err := checkLeaf(result.Granted.Certificate, a, r.Requests[i], &keys[result.ID].PublicKey, now); err != nil {
			return fmt.Errorf("certificate %q: %w", result.ID, err)
		}
	}
	return nil
}

func request(name string) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func checkLeaf(chain []byte, a certs.Authority, r certs.CertificateRequest, key *ecdsa.PublicKey, now time.Time) error {
	block, rest := pem.Decode(chain)
	if block == nil {
		return errors.New("not PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	between.AppendCertsFromPEM(rest)
	between.AppendCertsFromPEM(a.Chain)
	verify := func(bundle []byte, use x509.ExtKeyUsage) error {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(bundle)
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now.Add(time.Minute),
			KeyUsages: []x509.ExtKeyUsage{use}})
		return err
	}
	return errors.Join(
		verify(a.ServerBundle, x509.ExtKeyUsageServerAuth),
		verify(a.ClientBundle, x509.ExtKeyUsageClientAuth),
		want(key.Equal(leaf.PublicKey), "another key"),
		want(leaf.Subject.CommonName == r.CommonName && slices.Equal(leaf.Subject.Organization, r.Organizations), "subject %s", leaf.Subject),
		want(slices.Equal(leaf.DNSNames, r.DNSNames) && len(leaf.IPAddresses) == 0, "names %v %v", leaf.DNSNames, leaf.IPAddresses),
		want(!leaf.IsCA, "may sign others"),
		want(leaf.NotAfter.Sub(now) <= r.Life+time.Minute, "lives until %v, longer than asked", leaf.NotAfter))
}
