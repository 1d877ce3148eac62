package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits on what is read. A leaf with 500 names has less than 16 KiB.
const (
	maxPEM    = 64 << 10
	maxBundle = 1 << 20
	maxCerts  = 100
)

// onePEM decodes exactly one block of one of the given types, and nothing before or after it but white space.
func onePEM(data []byte, types ...string) (*pem.Block, error) {
	if len(data) > maxPEM {
		return nil, fmt.Errorf("%d bytes are more than the %d allowed", len(data), maxPEM)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, errors.New("it is empty")
	}
	if !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		return nil, errors.New("it does not begin with a PEM block")
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("its PEM block is damaged")
	}
	if !slices.Contains(types, block.Type) {
		return nil, fmt.Errorf("it is a PEM %q, not a %q", block.Type, types[0])
	}
	if len(bytes.TrimSpace(rest)) > 0 || bytes.Count(data, []byte("-----BEGIN ")) != 1 {
		return nil, errors.New("it holds more than one PEM block, or something after it")
	}
	return block, nil
}

// ParseCertificate reads a certificate as its holder sends it; see ParseSent.
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	cert, _, err := ParseSent(data)
	return cert, err
}

// ParseSent reads what the holder of a certificate sends: the certificate, and after it the authorities between it and a
// root, if there are any. Anything else in the data is an error.
func ParseSent(data []byte) (cert *x509.Certificate, between []*x509.Certificate, err error) {
	first, rest := data, []byte(nil)
	if end := bytes.Index(data, []byte(endCertificate)); end >= 0 {
		first, rest = data[:end+len(endCertificate)], bytes.TrimSpace(data[end+len(endCertificate):])
	}
	block, err := onePEM(first, "CERTIFICATE")
	if err != nil {
		return nil, nil, fmt.Errorf("read certificate: %w", err)
	}
	if cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, nil, fmt.Errorf("read certificate: %w", err)
	}
	if len(rest) == 0 {
		return cert, nil, nil
	}
	if len(data) > maxPEM || !bytes.HasPrefix(rest, []byte("-----BEGIN ")) || !bytes.HasSuffix(rest, []byte(endCertificate)) {
		return nil, nil, errors.New("read certificate: what follows it is no certificate")
	}
	if between, err = ParseBundle(rest); err != nil {
		return nil, nil, fmt.Errorf("read what follows a certificate: %w", err)
	}
	for _, c := range between {
		if !c.IsCA {
			return nil, nil, fmt.Errorf("read certificate: %q follows it, which is no authority", c.Subject)
		}
	}
	return cert, between, nil
}

const endCertificate = "-----END CERTIFICATE-----"

// WithChain is a certificate as its holder sends it: an authority's chain follows one that came alone.
func WithChain(certPEM, chain []byte) ([]byte, error) {
	if len(chain) == 0 {
		return certPEM, nil
	}
	_, between, err := ParseSent(certPEM)
	if err != nil || len(between) > 0 {
		return certPEM, err
	}
	return slices.Concat(bytes.TrimSpace(certPEM), []byte("\n"), chain), nil
}

// ParseBundle reads one or more certificates, with comments around them; a private key or anything else among them is an
// error, since bundles are given to everybody.
func ParseBundle(data []byte) ([]*x509.Certificate, error) {
	if len(data) > maxBundle {
		return nil, fmt.Errorf("read bundle: %d bytes are more than the %d allowed", len(data), maxBundle)
	}
	var certs []*x509.Certificate
	begins := bytes.Count(data, []byte("-----BEGIN "))
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("read bundle: it holds a PEM %q; only certificates belong there", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read bundle: certificate %d: %w", len(certs)+1, err)
		}
		if certs = append(certs, cert); len(certs) > maxCerts {
			return nil, fmt.Errorf("read bundle: more than %d certificates", maxCerts)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("read bundle: it holds no certificate")
	}
	if len(certs) != begins {
		return nil, fmt.Errorf("read bundle: %d of its %d PEM blocks are damaged", begins-len(certs), begins)
	}
	return certs, nil
}

// ParseCSR reads exactly one certificate request, signed by its own key. What kind of key that is, CheckKey judges.
func ParseCSR(data []byte) (*x509.CertificateRequest, error) {
	block, err := onePEM(data, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("read certificate request: signature: %w", err)
	}
	return csr, nil
}

// faults collects what is wrong, so that all of it is said at once.
type faults []error

func (f *faults) addf(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

func (f *faults) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

// wrap joins what was collected under one sentence, or is nil.
func (f faults) wrap(format string, args ...any) error {
	if len(f) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errors.Join(f...))
}

// quoteAll lists names for a message.
func quoteAll(names []string) string { return `"` + strings.Join(names, `", "`) + `"` }
