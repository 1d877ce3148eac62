package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Lock is who can open an encrypted snapshot.
type Lock struct{ to []age.Recipient }

// Key opens encrypted snapshots.
type Key struct{ of []age.Identity }

const maxKeys = 1 << 20

// ParseRecipients reads age's recipients, one a line.
func ParseRecipients(text string) (*Lock, error) {
	if len(text) > maxKeys {
		return nil, fmt.Errorf("read recipients: more than %d bytes", maxKeys)
	}
	to, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	return &Lock{to}, nil
}

// ParseIdentities reads age's identities, one a line.
func ParseIdentities(text string) (*Key, error) {
	if len(text) > maxKeys {
		return nil, fmt.Errorf("read identities: more than %d bytes", maxKeys)
	}
	of, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		// age quotes what it does not understand; that may be a key.
		return nil, errors.New("read identities: a line is not one of age's identities (AGE-SECRET-KEY-1…)")
	}
	return &Key{of}, nil
}

// Passphrase is a lock and its key, made of words that somebody remembers.
func Passphrase(words string) (*Lock, *Key, error) {
	to, err := age.NewScryptRecipient(words)
	if err != nil {
		return nil, nil, fmt.Errorf("use the passphrase: %w", err)
	}
	of, err := age.NewScryptIdentity(words)
	if err != nil {
		return nil, nil, fmt.Errorf("use the passphrase: %w", err)
	}
	return &Lock{[]age.Recipient{to}}, &Key{[]age.Identity{of}}, nil
}

// Encrypt encrypts what is written to it, to w. Close ends it.
func Encrypt(w io.Writer, l *Lock) (io.WriteCloser, error) {
	out, err := age.Encrypt(w, l.to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt a snapshot: %w", err)
	}
	return out, nil
}

// magic begins every file of age.
const magic = "age-encryption.org/"

// ErrEncrypted says that a key is needed.
var ErrEncrypted = errors.New("the snapshot is encrypted")

// Decrypt answers what r holds, decrypted where it is encrypted.
func Decrypt(r io.Reader, k *Key) (io.Reader, error) {
	head := make([]byte, len(magic))
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read a snapshot: %w", err)
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), r)
	if string(head[:n]) != magic {
		return whole, nil
	}
	if k == nil {
		return nil, ErrEncrypted
	}
	plain, err := age.Decrypt(whole, k.of...)
	if err != nil {
		return nil, fmt.Errorf("decrypt the snapshot: %w", err)
	}
	return plain, nil
}
