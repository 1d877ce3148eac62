package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"testing"
	"time"
)

// now is the day on which everything in these tests happens.
func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// authority is a certificate authority for tests only.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func makeAuthority(t testing.TB, name string, parent *authority, ends time.Time, usages ...x509.ExtKeyUsage) *authority {
	t.Helper()
	key, _, err := NewKey(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now().Add(-time.Hour), NotAfter: ends, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: usages,
	}
	signer, issuer := key, tmpl
	if parent != nil {
		signer, issuer = parent.key, parent.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, pem: certPEM(der)}
}

// sign does what a certs plugin does; mutate may then spoil it.
func (a *authority) sign(t testing.TB, csrPEM []byte, p Profile, life time.Duration, mutate func(*x509.Certificate)) []byte {
	t.Helper()
	csr, err := ParseCSR(csrPEM)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 150))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses,
		NotBefore: now().Add(-5 * time.Minute), NotAfter: now().Add(life), BasicConstraintsValid: true,
		KeyUsage: p.KeyUsage(KeyTypeOf(csr.PublicKey)), ExtKeyUsage: p.ExtKeyUsage(),
	}
	if mutate != nil {
		mutate(tmpl)
	}
	pub := csr.PublicKey
	if tmpl.PublicKey != nil {
		pub = tmpl.PublicKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return certPEM(der)
}

func (a *authority) trust() Trust { return Trust{Servers: a.pem, Clients: a.pem} }

func inTenYears() time.Time { return now().AddDate(10, 0, 1) }

func mustKey(t testing.TB, kt KeyType) (crypto.Signer, []byte) {
	t.Helper()
	key, data, err := NewKey(kt)
	if err != nil {
		t.Fatal(err)
	}
	return key, data
}

func mustProfile(t testing.TB, name string) Profile {
	t.Helper()
	p, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustCSR(t testing.TB, key crypto.Signer, r Request) []byte {
	t.Helper()
	csr, err := NewCSR(key, r)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func mustParse(t testing.TB, csrPEM []byte) *x509.CertificateRequest {
	t.Helper()
	csr, err := ParseCSR(csrPEM)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// requestFor is a good request for a profile, on the node "node-a".
func requestFor(p Profile) Request {
	r := Request{Profile: p, Node: "node-a"}
	switch p.Names {
	case NodeNames:
		r.Names = Names{DNS: []string{"node-a"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")}}
	case ConfNames:
		r.Names = BaseNames(netip.MustParseAddr("10.152.183.1"))
	case NoNames:
	}
	return r
}
