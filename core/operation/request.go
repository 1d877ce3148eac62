package operation

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// SignRequest has a CertificateSigningRequest of the cluster signed by the
// active certs plugin. The request was approved and is within the rules
// (kube.DecideCSR); its certificate is checked like every other.
func (n *Node) SignRequest(ctx context.Context, csr kube.CSR) ([]byte, error) {
	p, ok := pki.ForSigner(csr.Signer)
	if !ok {
		return nil, fmt.Errorf("signer %s is not mk's", csr.Signer)
	}
	parsed, err := pki.ParseCSR(csr.Request)
	if err != nil {
		return nil, err
	}
	w := &wish{csr: csr.Request, parsed: parsed, request: pki.Request{Profile: p, Node: n.Record.Name, Life: csr.Life}}
	if w.request.Life > p.MaxLife {
		w.request.Life = p.MaxLife
	}
	w.request.Names = pki.Names{DNS: parsed.DNSNames}
	for _, ip := range parsed.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			w.request.Names.IPs = append(w.request.Names.IPs, a.Unmap())
		}
	}
	if _, err := pki.CheckCSR(csr.Request, w.request); err != nil {
		return nil, err
	}
	now := n.Now()
	if err := n.Issuer.checkClock(now); err != nil {
		return nil, err
	}
	signer, who, err := n.Plugins.Certs(ctx, certs.Kubernetes)
	if err != nil {
		return nil, err
	}
	a, err := n.Issuer.Authority(ctx, certs.Kubernetes)
	if err != nil {
		return nil, err
	}
	request := certificateRequest(w, pki.KeyTypeOf(parsed.PublicKey))
	if request.CommonName == "" { // the profile leaves the subject to who asks
		request.CommonName, request.Organizations = parsed.Subject.CommonName, parsed.Subject.Organization
	}
	results, err := signer.Sign(ctx, certs.SignRequest{
		Call: plugin.Call{OperationID: "csr/" + csr.UID}, Requests: []certs.CertificateRequest{request}, Now: now,
	})
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("%s answered %d certificates to one request", who, len(results))
	}
	if err := accept(w, results[0], a, who, now); err != nil {
		return nil, err
	}
	return w.cert, nil
}

// lackedAddresses are those that certificates should hold and do not.
func (n *Node) lackedAddresses(set []netip.Addr) []string {
	var more []string
	for _, a := range set {
		if s := a.String(); !n.Record.KeepCertificates && s != n.Record.Address && !slices.Contains(n.Record.Addresses, s) {
			more = append(more, s)
		}
	}
	return more
}

// FollowAddresses takes over the node's addresses: certificates are issued
// anew only where one lacks a name. Names are only ever added while a node
// runs, so an address that comes and goes costs one certificate.
func (n *Node) FollowAddresses(ctx context.Context, set []netip.Addr) error {
	more := n.lackedAddresses(set)
	if len(more) == 0 {
		return nil
	}
	r, err := n.Journal.Begin(ctx, "follow addresses", more)
	if err != nil {
		return err
	}
	return r.End(ctx, r.Step(ctx, "take over the addresses", func(ctx context.Context) error {
		n.Record.Addresses = append(n.Record.Addresses, n.lackedAddresses(set)...)
		slices.Sort(n.Record.Addresses)
		if err := n.Root.SaveRecord(n.Record); err != nil {
			return err
		}
		cs, err := n.renewal([]string{pki.Server, pki.Kubelet})
		if err != nil {
			return err
		}
		if !n.Record.NoVote {
			cs.Operations = append(cs.Operations, changeset.Operation{Action: &changeset.IssueCertificate{Profile: pki.DatastoreMember}})
		}
		return r.Apply(ctx, cs)
	}))
}
