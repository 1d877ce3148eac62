package operation

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
)

// signRemotely has a control-plane node sign a batch. What comes back is
// checked like what a plugin answers.
func (i *Issuer) signRemotely(ctx context.Context, authority pki.Authority, batch []*wish, now time.Time) error {
	a, err := i.Authority(ctx, string(authority))
	if err != nil {
		return err
	}
	ask := peer.Sign{}
	for _, w := range batch {
		ask.Requests = append(ask.Requests, peer.SignEntry{Profile: w.request.Profile.Name, CSR: w.csr})
	}
	signed, err := i.Remote(ctx, ask)
	if err != nil {
		return err
	}
	if len(signed.Certificates) != len(batch) {
		return fmt.Errorf("the cluster answered %d certificates to %d requests", len(signed.Certificates), len(batch))
	}
	for n, cert := range signed.Certificates {
		granted := certs.SignResult{ID: batch[n].request.Profile.Name, Granted: &certs.Granted{Certificate: cert}}
		if err := accept(batch[n], granted, a, plugin.Identity{Kind: "the", Name: "cluster"}, now); err != nil {
			return err
		}
	}
	return nil
}

// Request is a certificate for a key that another node holds.
type Request struct {
	CSR    []byte
	Parsed *x509.CertificateRequest
	pki.Request
	// Granted are the names that the certificate is to have, where they are
	// fewer than the CSR asks for.
	Granted *pki.Names
}

// SignFor has keys of another node certified by the authority kubernetes. That
// they may be was found out before: each CSR is within its request.
func (i *Issuer) SignFor(ctx context.Context, operationID string, requests []Request) ([][]byte, error) {
	now := i.Now()
	if err := i.checkClock(now); err != nil {
		return nil, err
	}
	batch := make([]*wish, len(requests))
	for n, r := range requests {
		batch[n] = &wish{csr: r.CSR, parsed: r.Parsed, request: r.Request, granted: r.Granted, keyType: pki.KeyTypeOf(r.Parsed.PublicKey)}
	}
	if err := i.sign(ctx, operationID, pki.Kubernetes, batch, now); err != nil {
		return nil, err
	}
	out := make([][]byte, len(batch))
	for n, w := range batch {
		out[n] = w.cert
	}
	return out, nil
}

// authorityOnDisk is what a worker trusts.
func (i *Issuer) authorityOnDisk(name string) (certs.Authority, error) {
	if name != certs.Kubernetes {
		return certs.Authority{}, fmt.Errorf("a worker does not know the authority %s", name)
	}
	servers, err := i.Root.ReadFile(kubernetesTrust)
	if err != nil {
		return certs.Authority{}, err
	}
	clients, err := i.Root.ReadFile(clientTrust)
	return certs.Authority{Name: name, ServerBundle: servers, ClientBundle: clients}, err
}
