package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
)

const (
	day      = 24 * time.Hour
	rootLife = 20 * 365 * day
	caLife   = 5 * 365 * day
	leafLife = 90 * day
)

// store is what the state folder holds.
type store []*authority

// find finds a generation; 0 is the newest.
func (s store) find(name string, generation uint32) *authority {
	var found *authority
	for _, a := range s {
		newest := generation == 0 && (found == nil || a.Generation > found.Generation)
		if a.Name == name && (newest || a.Generation == generation) {
			found = a
		}
	}
	return found
}

// authority is an intermediate below a root. The root signs other
// intermediates, too: who has a certificate of one of those is no client here.
type authority struct {
	Name         string
	Generation   uint32
	Root         []byte // PEM
	RootKey      []byte // PKCS#8
	Intermediate []byte // PEM
	Key          []byte // PKCS#8
}

func newAuthority(name string, generation uint32, now time.Time) (*authority, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	rootPrivate, err := x509.MarshalPKCS8PrivateKey(rootKey)
	if err != nil {
		return nil, err
	}
	root := caTemplate(fmt.Sprintf("Acme Root for %s %d", name, generation), now, rootLife)
	root.MaxPathLen = 1
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	if root, err = x509.ParseCertificate(rootDER); err != nil {
		return nil, err
	}
	between := caTemplate(fmt.Sprintf("Acme Issuing CA for %s %d", name, generation), now, caLife)
	between.MaxPathLenZero = true
	betweenDER, err := x509.CreateCertificate(rand.Reader, between, root, key.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	return &authority{
		Name: name, Generation: generation, Root: pemOf(rootDER), RootKey: rootPrivate, Intermediate: pemOf(betweenDER), Key: private,
	}, nil
}

func caTemplate(name string, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name, Organization: []string{"Acme Corp"}},
		NotBefore: now.UTC().Truncate(time.Second), NotAfter: now.UTC().Truncate(time.Second).Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// serial is positive and has 16 octets at most. It comes from the kernel,
// which does not fail.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[0] &= 0x7f
	b[15] |= 1
	return new(big.Int).SetBytes(b[:])
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// described: servers are verified by the root, clients by the intermediate.
func (a *authority) described(where string) certs.Authority {
	return certs.Authority{
		Name: a.Name, Generation: a.Generation, Chain: a.Intermediate, ServerBundle: a.Root, ClientBundle: a.Intermediate,
		MaxLife: leafLife, KeyLocation: where,
	}
}

func (a *authority) sign(q certs.CertificateRequest, now time.Time) (*certs.Granted, error) {
	block, _ := pem.Decode(q.CSR)
	if block == nil {
		return nil, plugin.Errorf(plugin.BadArgument, "the request %s is no PEM", q.ID)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, plugin.Errorf(plugin.BadArgument, "the request %s: %v", q.ID, err)
	}
	block, _ = pem.Decode(a.Intermediate)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, err
	}
	t, err := leaf(q, now)
	if err != nil {
		return nil, err
	}
	if t.NotBefore.Before(ca.NotBefore) {
		t.NotBefore = ca.NotBefore
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, csr.PublicKey, key)
	if err != nil {
		return nil, err
	}
	g := &certs.Granted{Certificate: slices.Concat(pemOf(der), a.Intermediate)}
	if q.Life > leafLife {
		g.Changes = append(g.Changes, "it lives for 90 days, as all of Acme's do")
	}
	return g, nil
}

// leaf says what was asked beside the request, which the core has checked.
func leaf(q certs.CertificateRequest, now time.Time) (*x509.Certificate, error) {
	life := min(q.Life, leafLife)
	if life <= 0 {
		life = leafLife
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: q.CommonName, Organization: q.Organizations},
		NotBefore: now.UTC().Truncate(time.Second), DNSNames: q.DNSNames, BasicConstraintsValid: true,
	}
	t.NotAfter = t.NotBefore.Add(life)
	for _, s := range q.IPAddresses {
		ip := net.ParseIP(s)
		if ip == nil {
			return nil, plugin.Errorf(plugin.BadArgument, "%q is no IP address", s)
		}
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	if slices.Contains(q.KeyUsages, certs.DigitalSignature) {
		t.KeyUsage |= x509.KeyUsageDigitalSignature
	}
	if slices.Contains(q.KeyUsages, certs.KeyEncipherment) {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if slices.Contains(q.ExtendedKeyUsages, certs.ServerAuth) {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if slices.Contains(q.ExtendedKeyUsages, certs.ClientAuth) {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	return t, nil
}
