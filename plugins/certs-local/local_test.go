package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sdktest.Conformance(t, func() plugin.Plugin { return New("1.0.0") }, sdktest.Build(t, "."), nil)
}

func TestDescription(t *testing.T) {
	t.Parallel()
	d, err := New("1.2.3").Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	sdktest.GoldenText(t, "description", string(b)+"\n")
}

func configured(t *testing.T) (*Local, string) {
	t.Helper()
	p := New("1.0.0")
	return p, sdktest.Configure(t, p, nil)
}

func bootstrap(t *testing.T, p *Local, name string, generation uint32, now time.Time) certs.Authority {
	t.Helper()
	a, err := p.Bootstrap(t.Context(), certs.BootstrapRequest{Call: sdktest.Call(), Authority: name, Generation: generation, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func parse(t *testing.T, data []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatal("not PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newCSR(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "somebody"},
		DNSNames: []string{"not.asked.example"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func ecKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t *testing.T, p *Local, now time.Time, r certs.CertificateRequest) certs.SignResult {
	t.Helper()
	if r.CSR == nil {
		r.CSR = newCSR(t, ecKey(t))
	}
	if r.KeyUsages == nil {
		r.KeyUsages = []string{certs.DigitalSignature}
	}
	got, err := p.Sign(t.Context(), certs.SignRequest{Call: sdktest.Call(), Requests: []certs.CertificateRequest{r}, Now: now})
	if err != nil || len(got) != 1 || got[0].ID != r.ID {
		t.Fatalf("%+v %v", got, err)
	}
	return got[0]
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant time

func TestAuthorities(t *testing.T) {
	t.Parallel()
	p, _ := configured(t)
	keys := map[string]string{}
	for _, name := range certs.Names() {
		a := bootstrap(t, p, name, 1, start)
		c := parse(t, a.ServerBundle)
		if c.NotAfter.Sub(c.NotBefore) != caLife || !c.IsCA || !c.BasicConstraintsValid ||
			c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(c.SubjectKeyId) != 20 || c.SerialNumber.BitLen() > 159 {
			t.Errorf("%s: %+v", name, c)
		}
		keys[string(c.RawSubjectPublicKeyInfo)] = name
		if a.KeyLocation == "" || a.MaxLife == 0 {
			t.Errorf("%+v", a)
		}
	}
	if len(keys) != 3 {
		t.Fatal("authorities share a key")
	}
}

func TestGenerations(t *testing.T) {
	t.Parallel()
	p, _ := configured(t)
	first := bootstrap(t, p, certs.Kubernetes, 1, start)
	second := bootstrap(t, p, certs.Kubernetes, 2, start.Add(time.Hour))
	again := bootstrap(t, p, certs.Kubernetes, 1, start.Add(2*time.Hour))
	if !bytes.Equal(again.ServerBundle, first.ServerBundle) || bytes.Equal(first.ServerBundle, second.ServerBundle) {
		t.Fatal("Bootstrap does not find what is there")
	}
	list, err := p.Authorities(t.Context(), []string{certs.Kubernetes, certs.Datastore})
	if err != nil || len(list) != 2 || list[0].Generation != 2 || list[1].Generation != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	for generation, want := range map[uint32]certs.Authority{0: second, 1: first, 2: second} {
		r := sign(t, p, start.Add(3*time.Hour), certs.CertificateRequest{ID: "x", Authority: certs.Kubernetes, Generation: generation, CommonName: "x"})
		if err := parse(t, r.Granted.Certificate).CheckSignatureFrom(parse(t, want.ServerBundle)); err != nil {
			t.Errorf("generation %d: %v", generation, err)
		}
	}
	for range 2 {
		if err := p.Retire(t.Context(), certs.RetireRequest{Call: sdktest.Call(), Authority: certs.Kubernetes, Generation: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if r := sign(t, p, start, certs.CertificateRequest{ID: "x", Authority: certs.Kubernetes, Generation: 1}); r.Refused == nil ||
		r.Refused.Reason != plugin.AuthorityUnknown {
		t.Fatalf("a retired generation signs: %+v", r)
	}
}

func TestRetireBeforeAnythingWasMade(t *testing.T) {
	t.Parallel()
	p, _ := configured(t)
	if err := p.Retire(t.Context(), certs.RetireRequest{Call: sdktest.Call(), Authority: certs.Datastore, Generation: 1}); err != nil {
		t.Fatal(err)
	}
	if err := p.Retire(t.Context(), certs.RetireRequest{Authority: "x"}); !errors.Is(err, plugin.AuthorityUnknown) {
		t.Fatal(err)
	}
}

func TestLives(t *testing.T) {
	t.Parallel()
	p, _ := configured(t)
	bootstrap(t, p, certs.Kubernetes, 1, start)
	bootstrap(t, p, certs.Datastore, 1, start)
	for _, c := range []struct {
		name, authority string
		at, asked, want time.Duration
		changed         bool
	}{
		{"as asked", certs.Kubernetes, day, 30 * day, 30 * day, false},
		{"a year at most", certs.Kubernetes, day, 3650 * day, leafLife, true},
		{"nothing asked", certs.Kubernetes, day, 0, leafLife, false},
		{"not past the authority", certs.Kubernetes, caLife - 10*day, leafLife, 10 * day, true},
		{"datastore", certs.Datastore, day, leafLife, leafLife, false},
		{"datastore, ten years", certs.Datastore, day, caLife, caLife - day, true},
		{"not before the authority", certs.Kubernetes, 0, leafLife, leafLife, false},
	} {
		now := start.Add(c.at)
		r := sign(t, p, now, certs.CertificateRequest{ID: "x", Authority: c.authority, Life: c.asked, CommonName: "x"})
		if r.Granted == nil {
			t.Fatalf("%s: %+v", c.name, r.Refused)
		}
		leaf := parse(t, r.Granted.Certificate)
		if got := leaf.NotAfter.Sub(leaf.NotBefore); got != c.want || (len(r.Granted.Changes) > 0) != c.changed {
			t.Errorf("%s: %v instead of %v, %q", c.name, got, c.want, r.Granted.Changes)
		}
		if leaf.NotBefore.Before(start.Add(-backdate)) || now.Sub(leaf.NotBefore) > backdate {
			t.Errorf("%s: begins at %v", c.name, leaf.NotBefore)
		}
	}
	r := sign(t, p, start.Add(caLife), certs.CertificateRequest{ID: "x", Authority: certs.Kubernetes, CommonName: "x"})
	if r.Refused == nil || r.Refused.Reason != plugin.NotPossible {
		t.Errorf("an ended authority signs: %+v", r)
	}
}

func TestLifetimeIsASetting(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]time.Duration{
		``: leafLife, `{}`: leafLife, `{"lifetime": "max"}`: leafLife, `{"lifetime": "24h"}`: day, `{"lifetime": "9000h"}`: leafLife,
	} {
		p := New("1.0.0")
		sdktest.Configure(t, p, []byte(settings))
		if a := bootstrap(t, p, certs.Kubernetes, 1, start); a.MaxLife != want {
			t.Errorf("%s: the authority grants %s", settings, a.MaxLife)
		}
		r := sign(t, p, start.Add(day), certs.CertificateRequest{ID: "x", Authority: certs.Kubernetes, Life: 3650 * day, CommonName: "x"})
		leaf := parse(t, r.Granted.Certificate)
		if got := leaf.NotAfter.Sub(leaf.NotBefore); got != want || len(r.Granted.Changes) == 0 {
			t.Errorf("%s: a leaf lives %s, %q", settings, got, r.Granted.Changes)
		}
	}
	for _, bad := range []string{`{"lifetime": "9m"}`, `{"lifetime": "90000h"}`, `{"lifetime": "year"}`, `{"lifetime": 5}`, `{"life": "1h"}`, `[]`} {
		err := New("1.0.0").Configure(t.Context(), plugin.Configuration{StateDir: t.TempDir(), Settings: []byte(bad)})
		if !errors.Is(err, plugin.BadSettings) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestALeafSaysWhatWasAskedAndNothingOfTheRequest(t *testing.T) {
	t.Parallel()
	p, _ := configured(t)
	ca := parse(t, bootstrap(t, p, certs.Kubernetes, 1, start).ServerBundle)
	r := sign(t, p, start, certs.CertificateRequest{ID: "x", Authority: certs.Kubernetes, CommonName: "system:node:a",
		Organizations: []string{"system:nodes"}, DNSNames: []string{"a"}, IPAddresses: []string{"10.0.0.1", "fd00::1"},
		ExtendedKeyUsages: []string{certs.ServerAuth, certs.ClientAuth}})
	leaf := parse(t, r.Granted.Certificate)
	if leaf.Subject.String() != "CN=system:node:a,O=system:nodes" || len(leaf.DNSNames) != 1 || len(leaf.IPAddresses) != 2 ||
		len(leaf.ExtKeyUsage) != 2 || leaf.IsCA || leaf.Version != 3 || !bytes.Equal(leaf.AuthorityKeyId, ca.SubjectKeyId) {
		t.Fatalf("%+v", leaf)
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	p, _ := configured(t)
	bootstrap(t, p, certs.Kubernetes, 1, start)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := newCSR(t, ecKey(t))
	forged := bytes.Clone(good)
	block, _ := pem.Decode(forged)
	block.Bytes[len(block.Bytes)-1] ^= 1
	for name, c := range map[string]struct {
		r    certs.CertificateRequest
		want plugin.Reason
	}{
		"unknown authority":  {certs.CertificateRequest{Authority: "mine"}, plugin.AuthorityUnknown},
		"not bootstrapped":   {certs.CertificateRequest{Authority: certs.Datastore}, plugin.AuthorityUnknown},
		"unknown generation": {certs.CertificateRequest{Authority: certs.Kubernetes, Generation: 9}, plugin.AuthorityUnknown},
		"no request":         {certs.CertificateRequest{Authority: certs.Kubernetes, CSR: []byte("x")}, plugin.BadArgument},
		"huge request":       {certs.CertificateRequest{Authority: certs.Kubernetes, CSR: bytes.Repeat([]byte("x"), maxCSR+1)}, plugin.BadArgument},
		"forged signature":   {certs.CertificateRequest{Authority: certs.Kubernetes, CSR: pem.EncodeToMemory(block)}, plugin.BadArgument},
		"unknown key type":   {certs.CertificateRequest{Authority: certs.Kubernetes, CSR: newCSR(t, edKey)}, plugin.BadArgument},
		"unknown usage":      {certs.CertificateRequest{Authority: certs.Kubernetes, CSR: good, KeyUsages: []string{"cert-sign"}}, plugin.BadArgument},
		"no address":         {certs.CertificateRequest{Authority: certs.Kubernetes, CSR: good, IPAddresses: []string{"a"}}, plugin.BadArgument},
	} {
		c.r.ID = name
		if r := sign(t, p, start, c.r); r.Refused == nil || r.Refused.Reason != c.want {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if _, err := p.Bootstrap(t.Context(), certs.BootstrapRequest{Call: sdktest.Call(), Authority: certs.Kubernetes}); !errors.Is(err, plugin.BadArgument) {
		t.Errorf("generation 0: %v", err)
	}
}

func TestRSA(t *testing.T) {
	t.Parallel()
	p, _ := configured(t)
	_, err := p.Bootstrap(t.Context(), certs.BootstrapRequest{Call: sdktest.Call(), Authority: certs.FrontProxy, Generation: 1, KeyType: "rsa-2048", Now: start})
	if err != nil {
		t.Fatal(err)
	}
	r := sign(t, p, start, certs.CertificateRequest{ID: "x", Authority: certs.FrontProxy, CommonName: "front-proxy-client"})
	if r.Granted == nil || parse(t, r.Granted.Certificate).SignatureAlgorithm != x509.SHA256WithRSA {
		t.Fatalf("%+v", r)
	}
}

func TestCrossSign(t *testing.T) {
	t.Parallel()
	p, _ := configured(t)
	old := parse(t, bootstrap(t, p, certs.Kubernetes, 1, start).ServerBundle)
	next := bootstrap(t, p, certs.Kubernetes, 2, start.Add(30*day))
	r := certs.CrossSignRequest{Call: sdktest.Call(), Authority: certs.Kubernetes, Generation: 1, Certificate: next.ServerBundle, Now: start.Add(30 * day)}
	crossed, err := p.CrossSign(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.CrossSign(t.Context(), r)
	if err != nil || !bytes.Equal(again, crossed) {
		t.Fatalf("the same operation got another certificate: %v", err)
	}
	// Who trusts only the old one verifies what the new one signs.
	leaf := sign(t, p, start.Add(31*day), certs.CertificateRequest{ID: "x", Authority: certs.Kubernetes, CommonName: "x", DNSNames: []string{"x"},
		ExtendedKeyUsages: []string{certs.ServerAuth}})
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(old)
	between.AddCert(parse(t, crossed))
	if _, err := parse(t, leaf.Granted.Certificate).Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: start.Add(31 * day)}); err != nil {
		t.Fatal(err)
	}
	r.Call, r.Certificate = sdktest.Call(), leaf.Granted.Certificate
	if _, err := p.CrossSign(t.Context(), r); !errors.Is(err, plugin.BadArgument) {
		t.Fatalf("a leaf became an authority: %v", err)
	}
}

func TestExportAndImport(t *testing.T) {
	t.Parallel()
	from, _ := configured(t)
	to, _ := configured(t)
	a := bootstrap(t, from, certs.Kubernetes, 1, start)
	prepare := sdktest.Call()
	recipient, err := to.PrepareImport(t.Context(), prepare)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := to.PrepareImport(t.Context(), prepare); err != nil || !bytes.Equal(again, recipient) {
		t.Fatalf("the same operation got another key: %v", err)
	}
	sealed, err := from.Export(t.Context(), sdktest.Call(), recipient, []byte("reservation"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(sealed.Data), "kubernetes") {
		t.Fatal("not sealed")
	}
	if err := to.Import(t.Context(), sdktest.Call(), sealed, []byte("another")); !errors.Is(err, plugin.BadArgument) {
		t.Fatalf("another binding: %v", err)
	}
	call := sdktest.Call()
	for range 2 {
		if err := to.Import(t.Context(), call, sealed, []byte("reservation")); err != nil {
			t.Fatal(err)
		}
	}
	list, err := to.Authorities(t.Context(), nil)
	if err != nil || len(list) != 1 || !bytes.Equal(list[0].ServerBundle, a.ServerBundle) {
		t.Fatalf("%+v %v", list, err)
	}
	if r := sign(t, to, start, certs.CertificateRequest{ID: "x", Authority: certs.Kubernetes, CommonName: "x"}); r.Granted == nil {
		t.Fatalf("%+v", r.Refused)
	}
	// Who has an authority of its own does not lose it.
	third, _ := configured(t)
	bootstrap(t, third, certs.Kubernetes, 1, start)
	recipient, err = third.PrepareImport(t.Context(), sdktest.Call())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err = from.Export(t.Context(), sdktest.Call(), recipient, []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Import(t.Context(), sdktest.Call(), sealed, []byte("b")); !errors.Is(err, plugin.NotPossible) {
		t.Fatal(err)
	}
	sealed.Format = "someone.v1"
	if err := third.Import(t.Context(), sdktest.Call(), sealed, []byte("b")); !errors.Is(err, plugin.Unsupported) {
		t.Fatal(err)
	}
}

func TestForgetAndModes(t *testing.T) {
	t.Parallel()
	p, dir := configured(t)
	bootstrap(t, p, certs.Kubernetes, 1, start)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
	}
	for range 2 {
		if err := p.Forget(t.Context(), sdktest.Call()); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := p.Authorities(t.Context(), nil); err != nil || len(list) != 0 {
		t.Fatalf("%+v %v", list, err)
	}
}

func FuzzCSR(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	f.Add(forged)
	now := time.Now()
	a, err := newAuthority(certs.Kubernetes, 1, "", now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		if _, _, err := a.sign(certs.CertificateRequest{CSR: request}, now, time.Hour); err != nil {
			return
		}
		if csr, err := parseCSR(request); err != nil || csr.CheckSignature() != nil {
			t.Fatal("a forged request was signed")
		}
	})
}
