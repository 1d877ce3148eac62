package certs

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

// cluster is the plugin with its authorities made.
type cluster struct {
	plugin certs.Plugin
	trust  map[pki.Authority]certs.Authority
	now    time.Time
}

func start(t *testing.T, kt pki.KeyType) *cluster {
	t.Helper()
	p := sdktest.Start(t, sdktest.Build(t, "mk8s.io/mk/plugins/certs-local")).Certs()
	sdktest.Configure(t, p, nil)
	c := &cluster{plugin: p, trust: map[pki.Authority]certs.Authority{}, now: time.Now()}
	for _, name := range pki.Authorities() {
		a, err := p.Bootstrap(t.Context(), certs.BootstrapRequest{Call: sdktest.Call(), Authority: string(name),
			Generation: 1, KeyType: string(kt), Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		c.trust[name] = a
	}
	return c
}

// issue makes one certificate as the core does.
func (c *cluster) issue(t *testing.T, p pki.Profile, kt pki.KeyType) []byte {
	t.Helper()
	r := pki.Request{Profile: p, Node: "node-1"}
	if p.Names != pki.NoNames {
		r.Names = pki.BaseNames(netip.MustParseAddr("10.152.183.1"), netip.MustParseAddr("fd00::1"))
		r.Names.DNS = append(r.Names.DNS, "node-1")
	}
	if p.CommonName == "" {
		t.Fatal("its holder makes the request")
	}
	key, _, err := pki.NewKey(kt)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewCSR(key, r)
	if err != nil {
		t.Fatal(err)
	}
	asked := certs.CertificateRequest{ID: p.Name, CSR: csr, Authority: string(p.Authority), Profile: p.Name, Life: p.MaxLife,
		CommonName: p.Subject("node-1"), Organizations: p.GroupsOf("node-1"), DNSNames: r.Names.DNS, KeyUsages: []string{certs.DigitalSignature}}
	for _, a := range r.Names.IPs {
		asked.IPAddresses = append(asked.IPAddresses, a.String())
	}
	if p.Server {
		asked.ExtendedKeyUsages = append(asked.ExtendedKeyUsages, certs.ServerAuth)
		if kt == pki.RSA2048 {
			asked.KeyUsages = append(asked.KeyUsages, certs.KeyEncipherment)
		}
	}
	if p.Client {
		asked.ExtendedKeyUsages = append(asked.ExtendedKeyUsages, certs.ClientAuth)
	}
	got, err := c.plugin.Sign(t.Context(), certs.SignRequest{Call: plugin.Call{OperationID: "sign-" + p.Name},
		Requests: []certs.CertificateRequest{asked}, Now: c.now})
	if err != nil || len(got) != 1 || got[0].Granted == nil {
		t.Fatalf("%+v %v", got, err)
	}
	a := c.trust[p.Authority]
	parsed, err := pki.CheckCSR(csr, r)
	if err != nil {
		t.Fatal(err)
	}
	err = pki.CheckCertificate(got[0].Granted.Certificate, pki.Expect{CSR: parsed, Request: r, Now: c.now,
		Trust: pki.Trust{Servers: a.ServerBundle, Clients: a.ClientBundle}})
	if err != nil {
		t.Error(err)
	}
	return got[0].Granted.Certificate
}

func TestEveryProfilePassesTheCoreAndZlint(t *testing.T) {
	t.Parallel()
	for _, kt := range []pki.KeyType{pki.ECDSAP256, pki.RSA2048} {
		t.Run(string(kt), func(t *testing.T) {
			t.Parallel()
			c, dir := start(t, kt), t.TempDir()
			write(t, dir, "ca.crt", c.trust[pki.Kubernetes].ServerBundle)
			write(t, dir, "front-proxy-ca.crt", c.trust[pki.FrontProxy].ServerBundle)
			write(t, dir, "datastore-ca.crt", c.trust[pki.Datastore].ServerBundle)
			for _, p := range pki.Profiles() {
				if p.File == "" {
					continue
				}
				cert := c.issue(t, p, kt)
				write(t, dir, p.File+".crt", cert)
			}
			lint(t, dir)
		})
	}
}

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lint wants zlint to find nothing against RFC 5280, not even a warning.
func lint(t *testing.T, dir string) {
	t.Helper()
	zlint, err := filepath.Abs("../../out/testbin/zlint")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(zlint); err != nil {
		t.Fatalf("zlint was not built: make testtools (%v)", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.crt"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d certificates, %v", len(files), err)
	}
	for _, f := range files {
		out, err := exec.CommandContext(t.Context(), zlint, "-includeSources", "RFC5280", f).Output()
		if err != nil {
			t.Fatalf("zlint %s: %v", f, err)
		}
		var results map[string]struct{ Result string }
		if err := json.Unmarshal(out, &results); err != nil || len(results) < 50 {
			t.Fatalf("zlint %s: %v\n%s", f, err, out)
		}
		for name, r := range results {
			if r.Result == "error" || r.Result == "fatal" || r.Result == "warn" {
				t.Errorf("%s: %s: %s", filepath.Base(f), r.Result, name)
			}
		}
	}
}
