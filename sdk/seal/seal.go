// Package seal seals state for one holder of a key, so that authors of
// Exporter write no cryptography: HPKE (RFC 9180) with DHKEM(X25519,
// HKDF-SHA256), HKDF-SHA256 and AES-256-GCM. What is sealed is bound to a
// binding: it opens only with the same one. It does not say who sealed it.
package seal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"errors"
	"fmt"
)

// MaxSize is how much one seal may hold.
const MaxSize = 8 << 20

// ErrCannotOpen says that data was sealed to another key or binding, or was
// changed on its way. Which one cannot be told.
var ErrCannotOpen = errors.New("sealed to another key or for another operation, or damaged")

func kem() hpke.KEM   { return hpke.DHKEM(ecdh.X25519()) }
func kdf() hpke.KDF   { return hpke.HKDFSHA256() }
func aead() hpke.AEAD { return hpke.AES256GCM() }

// NewKey makes a key pair. The private half is kept in the plugin's state
// until Import has used it; the recipient is what PrepareImport answers.
func NewKey() (private, recipient []byte, err error) {
	k, err := kem().GenerateKey()
	if err != nil {
		return nil, nil, fmt.Errorf("making a key to seal to: %w", err)
	}
	b, err := k.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("making a key to seal to: %w", err)
	}
	return b, k.PublicKey().Bytes(), nil
}

// Recipient is the public half of a private key that was kept.
func Recipient(private []byte) ([]byte, error) {
	k, err := kem().NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("reading the key to open with: %w", err)
	}
	return k.PublicKey().Bytes(), nil
}

// Seal seals data to a recipient. The binding must not be empty: the
// reservation that the core hands over.
func Seal(recipient, binding, data []byte) ([]byte, error) {
	if err := bounds(binding, data); err != nil {
		return nil, err
	}
	pub, err := kem().NewPublicKey(recipient)
	if err != nil {
		return nil, fmt.Errorf("reading the recipient: %w", err)
	}
	sealed, err := hpke.Seal(pub, kdf(), aead(), binding, data)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return sealed, nil
}

// Open opens what Seal made.
func Open(private, binding, sealed []byte) ([]byte, error) {
	if err := bounds(binding, nil); err != nil {
		return nil, err
	}
	if len(sealed) > MaxSize+1<<10 {
		return nil, fmt.Errorf("%d bytes sealed, at most %d are allowed", len(sealed), MaxSize)
	}
	k, err := kem().NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("reading the key to open with: %w", err)
	}
	data, err := hpke.Open(k, kdf(), aead(), binding, sealed)
	if err != nil {
		return nil, ErrCannotOpen
	}
	return data, nil
}

func bounds(binding, data []byte) error {
	if len(binding) == 0 {
		return errors.New("sealing needs a binding")
	}
	if len(data) > MaxSize {
		return fmt.Errorf("%d bytes to seal, at most %d are allowed", len(data), MaxSize)
	}
	return nil
}
