package membership

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
)

// authority is a certs plugin that certifies a node's programs.
type authority struct {
	certs.Plugin

	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: at.Add(-time.Hour), NotAfter: at.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) Authorities(_ context.Context, names []string) ([]certs.Authority, error) {
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	return []certs.Authority{{Name: names[0], Generation: 1, ServerBundle: bundle, ClientBundle: bundle}}, nil
}

func (a *authority) Sign(_ context.Context, r certs.SignRequest) ([]certs.SignResult, error) {
	var out []certs.SignResult
	for _, q := range r.Requests {
		csr, err := pki.ParseCSR(q.CSR)
		if err != nil {
			return nil, err
		}
		id := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: q.CommonName, Organization: q.Organizations}, IPAddresses: csr.IPAddresses, DNSNames: csr.DNSNames,
			NotBefore: r.Now.Add(-time.Minute), NotAfter: r.Now.Add(time.Hour), BasicConstraintsValid: true, SubjectKeyId: id[:20],
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usages(q),
		}, a.cert, csr.PublicKey, a.key)
		if err != nil {
			return nil, err
		}
		out = append(out, certs.SignResult{ID: q.ID, Granted: &certs.Granted{Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}})
	}
	return out, nil
}

func usages(q certs.CertificateRequest) (out []x509.ExtKeyUsage) {
	for _, u := range q.ExtendedKeyUsages {
		out = append(out, map[string]x509.ExtKeyUsage{certs.ServerAuth: x509.ExtKeyUsageServerAuth, certs.ClientAuth: x509.ExtKeyUsageClientAuth}[u])
	}
	return out
}

// letInNode is a node that has let a joiner in, w1 with the key k1 and the
// operation o1.
type letInNode struct {
	Node

	store cluster.Members
	clock time.Time
}

func newLetInNode(t *testing.T) *letInNode {
	t.Helper()
	of, _ := serving(t)
	n := &letInNode{Node: of, clock: at}
	n.Options.Now = func() time.Time { return n.clock }
	n.Issuer.Plugins = plugins{certs: newAuthority(t)}
	n.Plugins = plugins{tokens: &given{}}
	var err error
	if n.store, err = n.Store(); err == nil {
		err = n.noteJoiner(t.Context(), n.store, &cluster.Member{Name: "w1", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o1", Key: "k1",
			Server: "n1", Address: "10.0.0.2", Until: at.Add(time.Hour)}, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// gone has another node take the join back.
func (n *letInNode) gone(ctx context.Context) error {
	m, err := n.store.Get(ctx, "w1")
	if err != nil {
		return err
	}
	return n.store.Delete(ctx, m)
}

// moved has it begin anew on another node, with another address.
func (n *letInNode) moved(ctx context.Context) error {
	m, err := n.store.Get(ctx, "w1")
	if err != nil {
		return err
	}
	m.Address = "10.0.0.3"
	return n.store.Put(ctx, m)
}

// entries are requests of w1, for a certificate of each profile.
func entries(t *testing.T, address string, profiles ...string) (out []peer.SignEntry) {
	t.Helper()
	names, err := operation.NormalNames([]string{"w1"}, []string{address})
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := pki.NewKey(pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range profiles {
		p, err := pki.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		r := pki.Request{Profile: p, Node: "w1"}
		if p.Names == pki.NodeNames {
			r.Names = names
		}
		csr, err := pki.NewCSR(key, r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, peer.SignEntry{Profile: name, CSR: csr})
	}
	return out
}

// Of a joiner that was let in the record is not read again for a moment.
func TestRecordIsNotReadAgainForAMoment(t *testing.T) {
	t.Parallel()
	const address, other = "10.0.0.2", "10.0.0.3"
	kubelet := entries(t, address, pki.Kubelet)
	nothing := func(context.Context, *letInNode) error { return nil }
	gone := func(ctx context.Context, n *letInNode) error { return n.gone(ctx) }
	moved := func(ctx context.Context, n *letInNode) error { return n.moved(ctx) }
	touched := func(ctx context.Context, n *letInNode) error {
		m, err := n.store.Get(ctx, "w1")
		if err != nil {
			return err
		}
		m.Until = m.Until.Add(time.Hour)
		return n.store.Put(ctx, m)
	}
	restarted := func(_ context.Context, n *letInNode) error {
		n.LetIn.Clear()
		return nil
	}
	committed := func(ctx context.Context, n *letInNode) error {
		return n.CommitJoin(ctx, Caller{Key: "k1"}, peer.Ref{Operation: "o1"})
	}
	later := func(d time.Duration) func(context.Context, *letInNode) error {
		return func(ctx context.Context, n *letInNode) error {
			n.clock = n.clock.Add(d)
			return n.gone(ctx)
		}
	}
	released := func(ctx context.Context, n *letInNode) error {
		_, err := n.ReleaseJoin(ctx, Caller{Key: "k1"}, peer.Ref{Operation: "o1"})
		return err
	}
	for name, c := range map[string]struct {
		then           func(context.Context, *letInNode) error // after it was let in
		key, operation string
		ask            []peer.SignEntry
		reason         plugin.Reason // of a refusal
	}{
		"nothing has changed":              {nothing, "k1", "o1", kubelet, ""},
		"taken back elsewhere":             {gone, "k1", "o1", kubelet, ""},
		"for another program":              {gone, "k1", "o1", entries(t, address, pki.Proxy), ""},
		"a while ago":                      {later(recent), "k1", "o1", kubelet, JoinEnded},
		"the clock was set back":           {later(-time.Second), "k1", "o1", kubelet, JoinEnded},
		"for the agent, too":               {nothing, "k1", "o1", entries(t, address, pki.Kubelet, pki.NodeAgent), ""},
		"for the agent, taken back":        {gone, "k1", "o1", entries(t, address, pki.Kubelet, pki.NodeAgent), JoinEnded},
		"for the agent, changed elsewhere": {touched, "k1", "o1", entries(t, address, pki.Kubelet, pki.NodeAgent), ""},
		"after a restart":                  {restarted, "k1", "o1", kubelet, ""},
		"taken back here":                  {released, "k1", "o1", kubelet, JoinEnded},
		"committed here":                   {committed, "k1", "o1", kubelet, JoinEnded},
		"begun elsewhere, another address": {moved, "k1", "o1", entries(t, other, pki.Kubelet), ""},
		"an address that is not its own":   {nothing, "k1", "o1", entries(t, other, pki.Kubelet), NotPermitted},
		"another key":                      {gone, "k2", "o1", kubelet, JoinEnded},
		"no key":                           {gone, "", "o1", kubelet, JoinEnded},
		"another join":                     {gone, "k1", "o2", kubelet, JoinEnded},
		"a profile that no worker has":     {nothing, "k1", "o1", []peer.SignEntry{{Profile: pki.Server, CSR: kubelet[0].CSR}}, NotPermitted},
		"another profile's request in it":  {nothing, "k1", "o1", []peer.SignEntry{{Profile: pki.Proxy, CSR: kubelet[0].CSR}}, NotPermitted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newLetInNode(t)
			if err := c.then(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			out, err := n.SignFor(t.Context(), Caller{Key: c.key}, peer.Sign{Operation: c.operation, Node: "w1", Requests: c.ask})
			if (err == nil) != (c.reason == "") || err != nil && (out != nil || !errors.Is(err, c.reason)) {
				t.Fatalf("%v, want %q", err, c.reason)
			}
			if err == nil {
				n.hasNoted(t, c.ask, out)
			}
		})
	}
}

// hasNoted looks for what must be in the record before a certificate is out.
func (n *letInNode) hasNoted(t *testing.T, ask []peer.SignEntry, out *peer.Signed) {
	t.Helper()
	if len(out.Certificates) != len(ask) {
		t.Fatalf("%d certificates", len(out.Certificates))
	}
	for i, q := range ask {
		if q.Profile != pki.NodeAgent {
			continue
		}
		cert, err := pki.ParseCertificate(out.Certificates[i])
		if err != nil {
			t.Fatal(err)
		}
		m, err := n.store.Get(t.Context(), "w1")
		if err != nil || !slices.Contains(m.Keys, peer.Fingerprint(cert)) {
			t.Errorf("the record %+v has no key of its agent (%v)", m, err)
		}
	}
}

// A joiner's record is found by the name that it says and by its operation
// alone; a name that is another's gives it nothing of that one's.
func TestWhoseCertificatesAJoinerAsksFor(t *testing.T) {
	t.Parallel()
	n, _ := serving(t)
	store, err := n.Store()
	if err != nil {
		t.Fatal(err)
	}
	until := at.Add(time.Hour)
	for _, m := range []*cluster.Member{
		{Name: "w1", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o1", Key: "k1", Server: "n1", Until: until},
		{Name: "w2", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o2", Key: "k2", Server: "n1", Until: until},
		{Name: "late", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o3", Key: "k3", Server: "n1", Until: at},
		{Name: "n1", Role: plugin.RoleControlPlane, State: cluster.Joined, Operation: "o4", Key: "k4"},
	} {
		if err := store.Put(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		key, operation, node string
		want                 string // empty: refused
	}{
		"its own name":              {"k1", "o1", "w1", "w1"},
		"no name":                   {"k1", "o1", "", "w1"},
		"no name that a node has":   {"k1", "o1", "../w1", "w1"},
		"another joiner's":          {"k1", "o1", "w2", ""},
		"another's, and its join":   {"k1", "o2", "w2", ""},
		"nobody's":                  {"k1", "o1", "w9", ""},
		"a member's":                {"k4", "o4", "n1", ""},
		"of a join that has ended":  {"k3", "o3", "late", ""},
		"its own, without its key":  {"", "o1", "w1", ""},
		"its own, with another key": {"k2", "o1", "w1", ""},
	} {
		m, err := n.signRecord(t.Context(), store, Caller{Key: c.key}, peer.Sign{Operation: c.operation, Node: c.node})
		if c.want == "" {
			if !errors.Is(err, JoinEnded) {
				t.Errorf("%s: %+v, %v", name, m, err)
			}
			continue
		}
		if err != nil || m.Name != c.want {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
