package operation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
)

// selfSigned is an authority's certificate.
func selfSigned(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestTrustHasTwoSides: servers are verified by the company's root, clients by
// the cluster's own intermediate. Nothing but the ChangeSet says so.
func TestTrustHasTwoSides(t *testing.T) {
	t.Parallel()
	root, own := selfSigned(t, "company"), selfSigned(t, "cluster")
	company := certs.Authority{ServerBundle: root, ClientBundle: own}
	for name, want := range map[string]map[string]string{
		certs.Kubernetes: {kubernetesTrust: string(root), clientTrust: string(own)},
		certs.FrontProxy: {frontProxyTrust: string(own)},
		certs.Datastore:  {datastoreTrust: string(own)},
	} {
		files, err := (&Issuer{}).Trust(changeset.SetTrust{Authority: name, Bundle: company.ServerBundle, ClientBundle: differing(company)})
		if err != nil || len(files) != len(want) {
			t.Fatalf("%s: %d files, %v", name, len(files), err)
		}
		for _, f := range files {
			if want[f.Path] != string(f.Content) {
				t.Errorf("%s: %s holds something else", name, f.Path)
			}
		}
	}
	if differing(certs.Authority{ServerBundle: root, ClientBundle: root}) != nil {
		t.Error("one bundle is carried twice")
	}
	for what, a := range map[string]changeset.SetTrust{
		"an unknown authority": {Authority: "x", Bundle: root},
		"no bundle":            {Authority: certs.Kubernetes},
		"clients by no bundle": {Authority: certs.Kubernetes, Bundle: root, ClientBundle: []byte("x")},
	} {
		if _, err := (&Issuer{}).Trust(a); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}
