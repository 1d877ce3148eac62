package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// KeyType names an algorithm and a size, spelled as in the node's settings.
type KeyType string

// The key types that mk makes. The empty KeyType means ECDSAP256.
const (
	ECDSAP256 KeyType = "ecdsa-p256"
	RSA2048   KeyType = "rsa-2048"
)

// ParseKeyType reads a setting. The empty string is the default.
func ParseKeyType(s string) (KeyType, error) {
	switch kt := KeyType(s); kt {
	case "":
		return ECDSAP256, nil
	case ECDSAP256, RSA2048:
		return kt, nil
	}
	return "", fmt.Errorf("key type %q is unknown: %s or %s", s, ECDSAP256, RSA2048)
}

// NewKey makes a private key and its PKCS#8 PEM. The randomness is the operating system's; there is no other source.
func NewKey(kt KeyType) (crypto.Signer, []byte, error) {
	kt, err := ParseKeyType(string(kt))
	if err != nil {
		return nil, nil, err
	}
	var key crypto.Signer
	if kt == RSA2048 {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make %s key: %w", kt, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode %s key: %w", kt, err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// NewTokenKey makes a key that signs tokens of service accounts, in the form that the API server reads both halves from:
// PKCS#8 for RSA, SEC 1 for ECDSA. Of PKCS#8 with an ECDSA key it reads the private half only.
func NewTokenKey(kt KeyType) ([]byte, error) {
	key, text, err := NewKey(kt)
	if err != nil {
		return nil, err
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return text, nil
	}
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encode %s key: %w", kt, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads one private key: PKCS#8, or the older PKCS#1 and SEC 1 forms that openssl writes. No error contains any
// of the input.
func ParseKey(data []byte) (crypto.Signer, error) {
	block, err := onePEM(data, "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	if len(block.Headers) > 0 {
		return nil, errors.New("read private key: it is encrypted; mk needs it in plain, mode 0600")
	}
	var key any
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read private key: a %T cannot sign", key)
	}
	return signer, nil
}

// KeyTypeOf describes a public key: one of the KeyType constants where mk could have made it, else the same spelling for
// what it is, as rsa-4096 or ed25519.
func KeyTypeOf(pub crypto.PublicKey) KeyType {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return KeyType("ecdsa-" + map[string]string{"P-224": "p224", "P-256": "p256", "P-384": "p384", "P-521": "p521"}[k.Params().Name])
	case *rsa.PublicKey:
		return KeyType(fmt.Sprintf("rsa-%d", k.N.BitLen()))
	case ed25519.PublicKey:
		return "ed25519"
	}
	return KeyType(fmt.Sprintf("%T", pub))
}

// CheckKey refuses keys that are too weak, or so large that verifying them is a burden to everyone.
func CheckKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fmt.Errorf("key: curve %s is not allowed: P-256 or P-384", k.Params().Name)
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return fmt.Errorf("key: RSA of %d bits is not allowed: 2048 to 4096", n)
		}
		if k.E < 65537 || k.E%2 == 0 {
			return fmt.Errorf("key: RSA exponent %d is not allowed: odd and at least 65537", k.E)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("key: %T is not allowed", pub)
	}
	return nil
}

// samePublic tells whether two public keys are equal.
func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// SelfSigned is a certificate that only carries a key: the other side pins the
// key and believes nothing else that it says. It lives for a day.
func SelfSigned(key crypto.Signer, name string, now time.Time) ([]byte, error) {
	serial := make([]byte, 16)
	rand.Read(serial) //nolint:errcheck // never fails, says its documentation
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(day),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
