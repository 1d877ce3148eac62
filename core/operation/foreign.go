package operation

import (
	"context"
	"fmt"

	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
)

// SignForeign has requests certified whose keys somebody else holds, for this
// node. The policy is that of Issue: the profile fixes the subject, and only
// names of this node may be asked for. All are checked before any is put to an
// authority; each granted certificate is checked as well.
func (i *Issuer) SignForeign(ctx context.Context, operationID string, requests []certs.CertificateRequest) ([]certs.SignResult, error) {
	now := i.Now()
	if err := i.checkClock(now); err != nil {
		return nil, err
	}
	wishes := make([]*wish, len(requests))
	for n, q := range requests {
		w, err := i.foreign(q)
		if err != nil {
			return nil, plugin.Errorf(plugin.BadArgument, "certificate request %.80q: %v", q.ID, err)
		}
		wishes[n] = w
	}
	out := make([]certs.SignResult, len(requests))
	for n, w := range wishes {
		r, err := i.signForeign(ctx, operationID, w)
		if err != nil {
			return nil, fmt.Errorf("certificate request %s: %w", requests[n].ID, err)
		}
		r.ID = requests[n].ID
		out[n] = r
	}
	return out, nil
}

// foreign judges one request by the policy. What stands beside its CSR does
// not count: the CSR is what an authority may copy.
func (i *Issuer) foreign(q certs.CertificateRequest) (*wish, error) {
	p, err := pki.Find(q.Profile)
	if err != nil {
		return nil, err
	}
	switch {
	case p.CommonName == "":
		return nil, fmt.Errorf("the profile %s is for people, who ask the cluster", p.Name)
	case q.Authority != "" && q.Authority != string(p.Authority):
		return nil, fmt.Errorf("%s certificates are the authority %s's, not %.80s's", p.Name, p.Authority, q.Authority)
	case q.Generation != 0:
		return nil, fmt.Errorf("only the newest generation signs: name none")
	}
	names, err := i.names(p)
	if err != nil {
		return nil, err
	}
	request := pki.Request{Profile: p, Node: i.Record.Name, Names: names, Life: q.Life}
	if err := request.Check(); err != nil {
		return nil, err
	}
	csr, err := pki.CheckCSR(q.CSR, request)
	if err != nil {
		return nil, err
	}
	request.Names = pki.NamesOf(csr.DNSNames, csr.IPAddresses)
	return &wish{csr: q.CSR, parsed: csr, request: request, keyType: pki.KeyTypeOf(csr.PublicKey)}, nil
}

func (i *Issuer) signForeign(ctx context.Context, operationID string, w *wish) (certs.SignResult, error) {
	now := i.Now()
	s, err := i.submit(ctx, operationID, w.request.Profile.Authority, []*wish{w}, []certs.CertificateRequest{certificateRequest(w, w.keyType)}, now)
	if err != nil {
		return certs.SignResult{}, err
	}
	r := s.results[0]
	if r.Granted == nil && (r.Pending != nil || r.Refused != nil) {
		return r, nil // the asker's to judge
	}
	return r, accept(w, r, s.authority, s.who, now)
}
