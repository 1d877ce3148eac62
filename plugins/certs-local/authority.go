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
	"fmt"
	"math/big"
	"slices"
	"sync"
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

	once sync.Once
	pair pair
}

// pair is what an authority signs with.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
	err  error
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
		NotBefore:             now.UTC().Truncate(time.Second).Add(-backdate),
		NotAfter:              now.UTC().Truncate(time.Second).Add(caLife - backdate),
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

// serial is 158 random bits: positive, and at most 20 octets (RFC 5280 4.1.2.2).
func serial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

// keyID is as method 4 of RFC 7093 allows: the leftmost 160 bits of the
// SHA-256 of the SubjectPublicKeyInfo.
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
		KeyLocation: where,
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

// open takes an authority's certificate and key apart, once.
func (a *authority) open() (*x509.Certificate, crypto.Signer, error) {
	a.once.Do(func() { a.pair.cert, a.pair.key, a.pair.err = a.parse() })
	return a.pair.cert, a.pair.key, a.pair.err
}

func (a *authority) parse() (*x509.Certificate, crypto.Signer, error) {
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
	if !now.IsZero() && !now.Before(ca.NotAfter) {
		return nil, plugin.Errorf(plugin.NotPossible, "authority %s ended on %s", a.Name, ca.NotAfter.Format(time.DateOnly))
	}
	number, err := serial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: number, RawSubject: other.RawSubject, SubjectKeyId: other.SubjectKeyId,
		NotBefore: later(other.NotBefore, ca.NotBefore), NotAfter: earlier(other.NotAfter, ca.NotAfter),
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
