package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
)

// signer is a server that certifies what it is asked to: it looks at a
// request's signature and signs. It is what the agent of a node is compared
// with, over the same protocol.
type signer struct {
	*httptest.Server

	ca  *x509.Certificate
	key crypto.Signer
}

func newSigner() (*signer, error) {
	s := &signer{}
	key, _, err := pki.NewKey(pki.ECDSAP256)
	if err != nil {
		return nil, err
	}
	cert, err := pki.SelfSigned(key, "signer", time.Now())
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(cert)
	s.key = key
	if s.ca, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, err
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.StartTLS()
	return s, nil
}

func (s *signer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in peer.Sign
	err := json.NewDecoder(r.Body).Decode(&in)
	out := peer.Signed{Certificates: make([][]byte, len(in.Requests))}
	for i, q := range in.Requests {
		if err == nil {
			out.Certificates[i], err = s.sign(q.CSR)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(out) // who asked sees that nothing came
}

func (s *signer) sign(request []byte) ([]byte, error) {
	csr, err := pki.ParseCSR(request)
	if err != nil {
		return nil, err
	}
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: number, Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses,
		NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0),
	}, s.ca, csr.PublicKey, s.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// client asks it as a joiner asks a node.
func (s *signer) client() *peer.Client {
	return peer.New(strings.TrimPrefix(s.URL, "https://"), peer.Options{Insecure: true})
}

// certify has a request certified, and tells how many milliseconds that took.
func certify(ctx context.Context, c *peer.Client, ask peer.Sign) (float64, error) {
	begun := time.Now()
	var signed peer.Signed
	if err := c.Call(ctx, peer.SignPath, ask, &signed); err != nil {
		return 0, err
	}
	if len(signed.Certificates) != len(ask.Requests) {
		return 0, fmt.Errorf("%d certificates for %d requests", len(signed.Certificates), len(ask.Requests))
	}
	for _, c := range signed.Certificates {
		if _, err := pki.ParseCertificate(c); err != nil {
			return 0, err
		}
	}
	return inMS(time.Since(begun)), nil
}
