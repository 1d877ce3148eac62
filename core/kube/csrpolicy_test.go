package kube

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/netip"
	"net/url"
	"testing"
)

func makeCSR(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func makeKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestDecideCSR(t *testing.T) {
	t.Parallel()
	key := makeKey(t)
	node := pkix.Name{CommonName: "system:node:a", Organization: []string{"system:nodes"}}
	serverUsages := []string{"digital signature", "server auth"}
	clientUsages := []string{"digital signature", "key encipherment", "client auth"}
	byNode := CSR{Username: "system:node:a", Groups: []string{"system:nodes", "system:authenticated"}}
	byBootstrapper := CSR{Username: "system:bootstrap:x", Groups: []string{"system:bootstrappers"}}
	byUser := CSR{Username: "jane", Groups: []string{"system:authenticated"}}
	serving := func(ips []net.IP, names ...string) x509.CertificateRequest {
		return x509.CertificateRequest{Subject: node, IPAddresses: ips, DNSNames: names}
	}
	own := []net.IP{net.ParseIP("10.0.0.1")}
	plain := x509.CertificateRequest{Subject: node}
	tests := []struct {
		name     string
		by       CSR
		signer   string
		usages   []string
		approved bool
		req      x509.CertificateRequest
		want     CSRAction
	}{
		{"serving", byNode, SignerKubeletServer, serverUsages, false, serving(own, "A"), CSRApprove},
		{"serving, approved", byNode, SignerKubeletServer, serverUsages, true, serving(own, "a"), CSRSign},
		{"serving, foreign address", byNode, SignerKubeletServer, serverUsages, false, serving([]net.IP{net.ParseIP("10.0.0.2")}), CSRRefuse},
		{"serving, foreign address approved", byNode, SignerKubeletServer, serverUsages, true, serving([]net.IP{net.ParseIP("10.0.0.2")}), CSRRefuse},
		{"serving, foreign name", byNode, SignerKubeletServer, serverUsages, false, serving(own, "kubernetes"), CSRRefuse},
		{"serving, no names", byNode, SignerKubeletServer, serverUsages, false, plain, CSRRefuse},
		{"serving, by a user", byUser, SignerKubeletServer, serverUsages, false, serving(own), CSRRefuse},
		{"serving, by a bootstrapper", byBootstrapper, SignerKubeletServer, serverUsages, false, serving(own), CSRRefuse},
		{"serving, a node's name without its group", CSR{Username: "system:node:a"}, SignerKubeletServer, serverUsages, false, serving(own), CSRRefuse},
		{"serving, for another node", byNode, SignerKubeletServer, serverUsages, false,
			x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:b", Organization: []string{"system:nodes"}}, IPAddresses: own}, CSRRefuse},
		{"serving, more groups", byNode, SignerKubeletServer, serverUsages, false,
			x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:a", Organization: []string{"system:nodes", "system:masters"}}, IPAddresses: own}, CSRRefuse},
		{"serving, client usage", byNode, SignerKubeletServer, append(serverUsages, "client auth"), false, serving(own), CSRRefuse},
		{"serving, uri", byNode, SignerKubeletServer, serverUsages, false,
			x509.CertificateRequest{Subject: node, IPAddresses: own, URIs: []*url.URL{{Scheme: "spiffe", Host: "x"}}}, CSRRefuse},
		{"kubelet client, renewal", byNode, SignerKubeletClient, clientUsages, false, plain, CSRApprove},
		{"kubelet client, bootstrap", byBootstrapper, SignerKubeletClient, clientUsages, false, plain, CSRApprove},
		{"kubelet client, by a user", byUser, SignerKubeletClient, clientUsages, false, plain, CSRRefuse},
		{"kubelet client, with names", byNode, SignerKubeletClient, clientUsages, false, serving(own), CSRRefuse},
		{"kubelet client, server usage", byNode, SignerKubeletClient, serverUsages, false, plain, CSRRefuse},
		{"kubelet client, unknown node", byBootstrapper, SignerKubeletClient, clientUsages, false,
			x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:new", Organization: []string{"system:nodes"}}}, CSRRefuse},
		{"user", byUser, SignerAPIClient, clientUsages, false, x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}}, CSRWait},
		{"user, approved", byUser, SignerAPIClient, clientUsages, true, x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: []string{"dev"}}}, CSRSign},
		{"user, masters", byUser, SignerAPIClient, clientUsages, true, x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: []string{"system:masters"}}}, CSRRefuse},
		{"user as node", byUser, SignerAPIClient, clientUsages, true, plain, CSRRefuse},
		{"user as mk", byUser, SignerAPIClient, clientUsages, true, x509.CertificateRequest{Subject: pkix.Name{CommonName: "mk:node:a"}}, CSRRefuse},
		{"user without a name", byUser, SignerAPIClient, clientUsages, true, x509.CertificateRequest{}, CSRRefuse},
		{"another signer", byUser, "example.io/x", clientUsages, true, plain, CSRIgnore},
	}
	nodes := func(name string) (NodeNames, bool) {
		return NodeNames{Addresses: []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}, Hostnames: []string{"a"}}, name == "a"
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			csr := tt.by
			csr.Signer, csr.Usages, csr.Approved, csr.Request = tt.signer, tt.usages, tt.approved, makeCSR(t, key, tt.req)
			if got := DecideCSR(csr, nodes); got.Action != tt.want || got.Reason == "" {
				t.Fatalf("%+v, want %s", got, tt.want)
			}
			csr.Issued = true
			if got := DecideCSR(csr, nodes); got.Action != CSRIgnore {
				t.Fatalf("finished: %+v", got)
			}
		})
	}
}

// TestDecideCSRRefusesWhatCannotBeRead leaves nothing open that nobody will
// ever sign.
func TestDecideCSRRefusesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := makeCSR(t, makeKey(t), x509.CertificateRequest{Subject: pkix.Name{CommonName: "a"}})
	for name, data := range map[string][]byte{
		"nothing": nil, "text": []byte("x"), "two": append(append([]byte{}, good...), good...),
		"small key": makeCSR(t, small, x509.CertificateRequest{Subject: pkix.Name{CommonName: "a"}}),
	} {
		csr := CSR{Signer: SignerAPIClient, Approved: true, Request: data}
		if got := DecideCSR(csr, func(string) (NodeNames, bool) { return NodeNames{}, false }); got.Action != CSRRefuse {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
