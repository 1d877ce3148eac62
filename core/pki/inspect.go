package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Info is what people are shown about a certificate.
type Info struct {
	Subject     string    `json:"subject"`
	CommonName  string    `json:"commonName"`
	Groups      []string  `json:"groups,omitempty"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	RenewAt     time.Time `json:"renewAt"`
	Names       []string  `json:"names,omitempty"`
	Key         KeyType   `json:"key"`
	Usages      []string  `json:"usages,omitempty"`
	CA          bool      `json:"ca,omitempty"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate
	KeyID       string    `json:"keyID,omitempty"`
	IssuerKeyID string    `json:"issuerKeyID,omitempty"`
}

// InspectBundle describes every certificate of a bundle. It judges nothing.
func InspectBundle(data []byte) ([]Info, error) {
	certs, err := ParseBundle(data)
	if err != nil {
		return nil, err
	}
	out := make([]Info, 0, len(certs))
	for _, c := range certs {
		out = append(out, Describe(c))
	}
	return out, nil
}

// Describe describes a certificate that is parsed already.
func Describe(cert *x509.Certificate) Info {
	sum := sha256.Sum256(cert.Raw)
	usages := keyUsageNames(cert.KeyUsage)
	for _, u := range cert.ExtKeyUsage {
		usages = append(usages, ekuName(u))
	}
	return Info{
		Subject: cert.Subject.String(), CommonName: cert.Subject.CommonName, Groups: cert.Subject.Organization,
		Issuer: cert.Issuer.String(), Serial: fmt.Sprintf("%x", cert.SerialNumber),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), RenewAt: RenewAt(cert).UTC(),
		Names: NamesOf(cert.DNSNames, cert.IPAddresses).Strings(),
		Key:   KeyTypeOf(cert.PublicKey), Usages: usages, CA: cert.IsCA,
		Fingerprint: hex.EncodeToString(sum[:]),
		KeyID:       hex.EncodeToString(cert.SubjectKeyId), IssuerKeyID: hex.EncodeToString(cert.AuthorityKeyId),
	}
}

// RenewAt is two thirds of a certificate's real life, which may be shorter than what was asked.
func RenewAt(cert *x509.Certificate) time.Time {
	// Divided first: the life of a certificate that ends in 9999 fills a Duration.
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}

// State says where in its life a certificate is.
type State string

// The states, in their order.
const (
	NotYetValid State = "not yet valid"
	Valid       State = "valid"
	Due         State = "due" // still valid; renew it now
	Expired     State = "expired"
)

// State is the state at a time.
func (i Info) State(now time.Time) State {
	switch {
	case now.Before(i.NotBefore):
		return NotYetValid
	case now.After(i.NotAfter):
		return Expired
	case !now.Before(i.RenewAt):
		return Due
	}
	return Valid
}

// String is one line, for logs and messages.
func (i Info) String() string {
	s := fmt.Sprintf("%s by %s until %s", i.Subject, i.Issuer, stamp(i.NotAfter))
	if len(i.Names) > 0 {
		s += " for " + strings.Join(slices.Clip(i.Names), ", ")
	}
	return s
}
