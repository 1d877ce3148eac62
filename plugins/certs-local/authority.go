package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
)

const (
	storeName = "authorities.json"
	day       = 24 * time.Hour
	caLife    = 3650 * day
	leafLife  = 365 * day
	// backdate lets peers have clocks that are a little behind.
	backdate = 5 * time.Minute
)

// store is all that this plugin keeps.
type store struct {
	Authorities map[string][]*authority `json:"authorities"`
}

// authority is one generation of one authority, with its key.
type authority struct {
	Name        string `json:"name"`
	Generation  uint32 `json:"generation"`
	Key         []byte `json:"key"`         // PKCS#8, DER
	Certificate []byte `json:"certificate"` // DER
}

func (s *store) find(name string, generation uint32) *authority {
	list := s.sorted(name)
	if generation == 0 && len(list) > 0 {
		return list[len(list)-1]
	}
	for _, a := range list {
		if a.Generation == generation {
			return a
		}
	}
	return nil
}

func (s *store) sorted(name string) []*authority {
	return slices.SortedFunc(slices.Values(s.Authorities[name]), func(a, b *authority) int { return int(a.Generation) - int(b.Generation) })
}

// newAuthority makes a key and its self-signed certificate of ten years.
func newAuthority(name string, generation uint32, keyType string, now time.Time) (*authority, error) {
	key, err := newKey(keyType)
	if err != nil {
		return nil, err
	}
	if now.IsZero() {
		now = time.Now()
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: fmt.Sprintf("mk-%s-ca-%d", name, generation)},
		NotBefore:             now.UTC().Truncate(time.Second),
		NotAfter:              now.UTC().Truncate(time.Second).Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if template.SerialNumber, err = serial(); err != nil {
		return nil, err
	}
	if template.SubjectKeyId, err = keyID(key.Public()); err != nil {
		return nil, err
	}
	template.AuthorityKeyId = template.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of authority %s: %w", name, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("keep the key of authority %s: %w", name, err)
	}
	return &authority{Name: name, Generation: generation, Key: private, Certificate: der}, nil
}

func newKey(keyType string) (crypto.Signer, error) {
	switch keyType {
	case "", "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, plugin.Errorf(plugin.BadArgument, "key type %q is unknown: ecdsa-p256, rsa-2048", keyType)
}

// serial is 159 random bits: positive, and at most 20 octets (RFC 5280 4.1.2.2).
func serial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

// keyID is method 1 of RFC 7093: the leftmost 160 bits of the SHA-256 of the
// public key.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("identify a key: %w", err)
	}
	sum := sha256.Sum256(der)
	return sum[:20], nil
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (a *authority) described(where string) certs.Authority {
	bundle := pemOf(a.Certificate)
	return certs.Authority{
		Name: a.Name, Generation: a.Generation, ServerBundle: bundle, ClientBundle: bundle,
		MaxLife: a.maxLife(), KeyLocation: where,
	}
}

// maxLife is the longest that this authority grants: its datastore's pairs
// live as long as it does.
func (a *authority) maxLife() time.Duration {
	if a.Name == certs.Datastore {
		return caLife
	}
	return leafLife
}

func (a *authority) open() (*x509.Certificate, crypto.Signer, error) {
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("read authority %s: %w", a.Name, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("read the key of authority %s: %w", a.Name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("read the key of authority %s: it cannot sign", a.Name)
	}
	return cert, signer, nil
}

// sign answers one request.
func (s *store) sign(r certs.CertificateRequest, now time.Time) certs.SignResult {
	a := s.find(r.Authority, r.Generation)
	if a == nil {
		return refused(r.ID, unknownAuthority(r.Authority))
	}
	der, changes, err := a.sign(r, now)
	if err != nil {
		return refused(r.ID, err)
	}
	return certs.SignResult{ID: r.ID, Granted: &certs.Granted{Certificate: pemOf(der), Changes: changes}}
}

func refused(id string, err error) certs.SignResult {
	return certs.SignResult{ID: id, Refused: &certs.Refused{Reason: plugin.ReasonOf(err), Message: err.Error()}}
}

func (a *authority) sign(r certs.CertificateRequest, now time.Time) (der []byte, changes []string, err error) {
	ca, key, err := a.open()
	if err != nil {
		return nil, nil, err
	}
	csr, err := parseCSR(r.CSR)
	if err != nil {
		return nil, nil, err
	}
	template, err := leaf(r)
	if err != nil {
		return nil, nil, err
	}
	life := min(r.Life, a.maxLife())
	if life <= 0 {
		life = a.maxLife()
	}
	template.NotBefore = later(now.Add(-backdate), ca.NotBefore).UTC().Truncate(time.Second)
	template.NotAfter = template.NotBefore.Add(life)
	if template.NotAfter.After(ca.NotAfter) {
		template.NotAfter = ca.NotAfter
	}
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
	return der, changes, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func parseCSR(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, plugin.Errorf(plugin.BadArgument, "there is no certificate request in the PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, plugin.Errorf(plugin.BadArgument, "certificate request: %v", err)
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

// crossSign signs the certificate of another generation with this one's key.
func (a *authority) crossSign(certificate []byte, now time.Time) ([]byte, error) {
	ca, key, err := a.open()
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(certificate)
	if block == nil {
		return nil, plugin.Errorf(plugin.BadArgument, "there is no certificate in the PEM")
	}
	other, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, plugin.Errorf(plugin.BadArgument, "certificate: %v", err)
	}
	if !other.IsCA {
		return nil, plugin.Errorf(plugin.BadArgument, "%s is no authority", other.Subject)
	}
	if now.After(ca.NotAfter) {
		return nil, errors.New("this authority has ended")
	}
	number, err := serial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: number, Subject: other.Subject, SubjectKeyId: other.SubjectKeyId,
		NotBefore: later(other.NotBefore, ca.NotBefore), NotAfter: ca.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: other.KeyUsage,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, other.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("cross-sign: %w", err)
	}
	return pemOf(der), nil
}

// digest tells batches of one operation apart.
func digest(requests []certs.CertificateRequest) string {
	data, _ := json.Marshal(requests) // plain data always marshals
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
