package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/netip"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
)

// sign answers one request; longest says what an authority grants at most.
func (s *store) sign(r certs.CertificateRequest, now time.Time, longest func(*authority) time.Duration) certs.SignResult {
	a := s.find(r.Authority, r.Generation)
	if a == nil {
		return refused(r.ID, unknownAuthority(r.Authority))
	}
	der, changes, err := a.sign(r, now, longest(a))
	if err != nil {
		return refused(r.ID, err)
	}
	return certs.SignResult{ID: r.ID, Granted: &certs.Granted{Certificate: pemOf(der), Changes: changes}}
}

func refused(id string, err error) certs.SignResult {
	return certs.SignResult{ID: id, Refused: &certs.Refused{Reason: plugin.ReasonOf(err), Message: err.Error()}}
}

func (a *authority) sign(r certs.CertificateRequest, now time.Time, longest time.Duration) (der []byte, changes []string, err error) {
	ca, key, err := a.open()
	if err != nil {
		return nil, nil, err
	}
	csr, err := parseCSR(r.CSR)
	if err != nil {
		return nil, nil, err
	}
	forged := make(chan error, 1) // looked at meanwhile: either takes as long
	go func() { forged <- csr.CheckSignature() }()
	template, err := leaf(r)
	if err != nil {
		return nil, nil, err
	}
	life := min(r.Life, longest)
	if life <= 0 {
		life = longest
	}
	template.NotBefore = later(now.Add(-backdate), ca.NotBefore).UTC().Truncate(time.Second)
	template.NotAfter = earlier(template.NotBefore.Add(life), ca.NotAfter)
	if r.Life > 0 && template.NotAfter.Sub(template.NotBefore) < r.Life {
		changes = append(changes, fmt.Sprintf("it ends on %s instead of after %s", template.NotAfter.Format(time.DateOnly), r.Life))
	}
	if !template.NotAfter.After(now) {
		return nil, nil, plugin.Errorf(plugin.NotPossible, "authority %s ended on %s", a.Name, ca.NotAfter.Format(time.DateOnly))
	}
	if template.SerialNumber, err = serial(); err != nil {
		return nil, nil, err
	}
	if template.SubjectKeyId, err = keyID(csr.PublicKey); err != nil {
		return nil, nil, err
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, ca, csr.PublicKey, key); err != nil {
		return nil, nil, fmt.Errorf("sign %s: %w", r.Profile, err)
	}
	if err := <-forged; err != nil {
		return nil, nil, plugin.Errorf(plugin.BadArgument, "certificate request: %v", err)
	}
	return der, changes, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// checkKey lets the kinds of keys through that every program of Kubernetes
// takes, and that are not too short.
func checkKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return nil
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
			return plugin.Errorf(plugin.BadArgument, "an RSA key of %d bits: 2048 to 8192", bits)
		}
		return nil
	}
	return plugin.Errorf(plugin.BadArgument, "a key of type %T: ECDSA (P-256, P-384, P-521) and RSA are signed", pub)
}

// maxCSR is how large a certificate request may be.
const maxCSR = 64 << 10

// parseCSR reads a request whose signature is yet to be looked at.
func parseCSR(data []byte) (*x509.CertificateRequest, error) {
	if len(data) > maxCSR {
		return nil, plugin.Errorf(plugin.BadArgument, "a certificate request of %d bytes, at most %d are allowed", len(data), maxCSR)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, plugin.Errorf(plugin.BadArgument, "there is no certificate request in the PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, plugin.Errorf(plugin.BadArgument, "certificate request: %v", err)
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, err
	}
	return csr, nil
}

// leaf is what a certificate says. Everything comes from what the core
// checked, nothing but the key from the CSR.
func leaf(r certs.CertificateRequest) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: r.CommonName, Organization: r.Organizations},
		DNSNames:              r.DNSNames,
		BasicConstraintsValid: true,
	}
	for _, s := range r.IPAddresses {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return nil, plugin.Errorf(plugin.BadArgument, "%q is not an IP address", s)
		}
		t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
	}
	for _, u := range r.KeyUsages {
		switch u {
		case certs.DigitalSignature:
			t.KeyUsage |= x509.KeyUsageDigitalSignature
		case certs.KeyEncipherment:
			t.KeyUsage |= x509.KeyUsageKeyEncipherment
		default:
			return nil, plugin.Errorf(plugin.BadArgument, "key usage %q is unknown", u)
		}
	}
	for _, u := range r.ExtendedKeyUsages {
		switch u {
		case certs.ServerAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		case certs.ClientAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		default:
			return nil, plugin.Errorf(plugin.BadArgument, "extended key usage %q is unknown", u)
		}
	}
	return t, nil
}
