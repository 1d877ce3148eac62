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

// authority is a certs plugin that certifies kubelets, and counts them.
type authority struct {
	certs.Plugin

	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	signed int
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
	a.signed++
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
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, a.cert, csr.PublicKey, a.key)
		if err != nil {
			return nil, err
		}
		out = append(out, certs.SignResult{ID: q.ID, Granted: &certs.Granted{Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}})
	}
	return out, nil
}

// The certificates of a join that began on this node are made while its record
// is read; but what the record says is what counts.
func TestCertificatesMadeBeforeTheRecordIsRead(t *testing.T) {
	t.Parallel()
	kubelet, err := pki.Find(pki.Kubelet)
	if err != nil {
		t.Fatal(err)
	}
	names, err := operation.NormalNames([]string{"w1"}, []string{"10.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewCSR(key, pki.Request{Profile: kubelet, Node: "w1", Names: names})
	if err != nil {
		t.Fatal(err)
	}
	record := func(address string) *cluster.Member {
		return &cluster.Member{Name: "w1", Role: plugin.RoleWorker, State: cluster.Joining, Operation: "o1", Key: "k1", Server: "n1",
			Address: address, Until: at.Add(time.Hour), Certified: true}
	}
	for name, c := range map[string]struct {
		began, now *cluster.Member
		signed     int
		reason     plugin.Reason // of a refusal
	}{
		"the record says the same":              {record("10.0.0.2"), record("10.0.0.2"), 1, ""},
		"the join began elsewhere":              {nil, record("10.0.0.2"), 1, ""},
		"the join ended elsewhere":              {record("10.0.0.2"), nil, 1, JoinEnded},
		"no join":                               {nil, nil, 0, JoinEnded},
		"its address is another one since":      {record("10.0.0.2"), func() *cluster.Member { m := record("10.0.0.3"); m.Certified = false; return m }(), 1, NotPermitted},
		"it began so long ago that it ended":    {func() *cluster.Member { m := record("10.0.0.2"); m.Until = at; return m }(), record("10.0.0.2"), 1, ""},
		"its address was another one":           {record("10.0.0.3"), record("10.0.0.2"), 1, ""},
		"it has more addresses than it asks of": {record("10.0.0.2"), func() *cluster.Member { m := record("10.0.0.2"); m.Addresses = []string{"10.0.0.9"}; return m }(), 2, ""},
	} {
		n, _ := serving(t)
		a := newAuthority(t)
		n.Issuer.Plugins = plugins{certs: a}
		store, err := n.Store()
		if err != nil {
			t.Fatal(err)
		}
		if c.now != nil {
			if err := store.Put(t.Context(), c.now); err != nil {
				t.Fatal(err)
			}
		}
		if c.began != nil {
			n.Begun.Store(joinID{"o1", "k1"}, c.began)
		}
		out, err := n.SignFor(t.Context(), Caller{Key: "k1"}, peer.Sign{Operation: "o1", Node: "w1", Requests: []peer.SignEntry{{Profile: pki.Kubelet, CSR: csr}}})
		if (err == nil) != (c.reason == "") || err != nil && (out != nil || !errors.Is(err, c.reason)) {
			t.Errorf("%s: %v, want %q", name, err, c.reason)
		}
		if a.signed > c.signed || err == nil && a.signed != c.signed {
			t.Errorf("%s: %d times signed, want %d", name, a.signed, c.signed)
		}
		if err != nil {
			// Nobody is let in who is refused.
			if kept, e := store.Get(t.Context(), "w1"); e != nil || kept != nil && kept.Certified != c.now.Certified {
				t.Errorf("%s: the record is %+v, %v", name, kept, e)
			}
			continue
		}
		cert, err := pki.ParseCertificate(out.Certificates[0])
		if err != nil || len(out.Certificates) != 1 || !slices.Equal(cert.DNSNames, []string{"w1"}) {
			t.Errorf("%s: %v, %v", name, cert, err)
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
