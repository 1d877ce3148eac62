package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func rawCSR(t testing.TB, key crypto.Signer, tmpl x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestCheckCSR(t *testing.T) {
	t.Parallel()
	key, _ := mustKey(t, ECDSAP256)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa3072, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	kubelet, serving, api := mustProfile(t, Kubelet), mustProfile(t, KubeletServing), mustProfile(t, APIClient)
	node := pkix.Name{CommonName: "system:node:node-a", Organization: []string{"system:nodes"}}
	ip := []net.IP{net.IPv4(10, 0, 0, 5)}
	ca, err := asn1.Marshal(struct{ IsCA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	uid := pkix.Name{CommonName: "system:node:node-a", Organization: []string{"system:nodes"},
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}, Value: "7"}}}
	type csr = x509.CertificateRequest
	ext := func(id asn1.ObjectIdentifier, v []byte) []pkix.Extension { return []pkix.Extension{{Id: id, Value: v}} }
	cases := map[string]struct {
		p    Profile
		key  crypto.Signer
		csr  csr
		want []string
	}{
		"kubelet":      {p: kubelet, csr: csr{Subject: node, IPAddresses: ip}},
		"large RSA":    {p: kubelet, key: rsa3072, csr: csr{Subject: node, IPAddresses: ip}},
		"weak curve":   {p: kubelet, key: p224, csr: csr{Subject: node, IPAddresses: ip}, want: []string{"P-224"}},
		"no names":     {p: serving, csr: csr{Subject: node}, want: []string{"asks for none"}},
		"foreign name": {p: serving, csr: csr{Subject: node, DNSNames: []string{"node-a", "node-b", "kubernetes"}}, want: []string{"DNS:kubernetes", "DNS:node-b"}},
		"wildcard":     {p: serving, csr: csr{Subject: node, DNSNames: []string{"*.node-a"}}, want: []string{"DNS:*.node-a"}},
		"names for a client": {p: mustProfile(t, KubeletClient), csr: csr{Subject: node, DNSNames: []string{"node-a"}},
			want: []string{"carries none"}},
		"another node":  {p: serving, csr: csr{Subject: pkix.Name{CommonName: "system:node:node-b", Organization: []string{"system:nodes"}}, IPAddresses: ip}, want: []string{"common name"}},
		"more groups":   {p: serving, csr: csr{Subject: pkix.Name{CommonName: "system:node:node-a", Organization: []string{"system:nodes", "system:masters"}}, IPAddresses: ip}, want: []string{"organizations"}},
		"a UID":         {p: serving, csr: csr{Subject: uid, IPAddresses: ip}, want: []string{"57683.2 is not allowed"}},
		"two names":     {p: api, csr: csr{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "a"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "b"}}}}, want: []string{"2 common names"}},
		"email":         {p: serving, csr: csr{Subject: node, IPAddresses: ip, EmailAddresses: []string{"a@b.c"}}, want: []string{"e-mail"}},
		"authority":     {p: serving, csr: csr{Subject: node, IPAddresses: ip, ExtraExtensions: ext(asn1.ObjectIdentifier{2, 5, 29, 19}, ca)}, want: []string{"become an authority"}},
		"certSign":      {p: serving, csr: csr{Subject: node, IPAddresses: ip, ExtraExtensions: ext(asn1.ObjectIdentifier{2, 5, 29, 15}, []byte{3, 2, 2, 4})}, want: []string{"keyCertSign"}},
		"unknown":       {p: serving, csr: csr{Subject: node, IPAddresses: ip, ExtraExtensions: ext(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0})}, want: []string{"1.2.3 is not allowed"}},
		"damaged":       {p: serving, csr: csr{Subject: node, IPAddresses: ip, ExtraExtensions: ext(asn1.ObjectIdentifier{2, 5, 29, 37}, []byte{1})}, want: []string{"extended key usage is damaged"}},
		"client's":      {p: serving, csr: csr{Subject: node, IPAddresses: ip, ExtraExtensions: ext(asn1.ObjectIdentifier{2, 5, 29, 37}, []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2})}, want: []string{"7.3.2 is not allowed"}},
		"a person":      {p: api, csr: csr{Subject: pkix.Name{CommonName: "jane", Organization: []string{"devs"}}}},
		"an admin":      {p: api, csr: csr{Subject: pkix.Name{CommonName: "jane", Organization: []string{"system:masters"}}}, want: []string{"kept for the cluster"}},
		"an agent":      {p: api, csr: csr{Subject: pkix.Name{CommonName: "mk:node:x"}}, want: []string{"kept for the cluster"}},
		"nobody":        {p: api, csr: csr{}, want: []string{"0 common names"}},
		"all at once":   {p: serving, key: p224, csr: csr{Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"y"}}, want: []string{"P-224", "common name", "DNS:y", "organizations"}},
		"impossible IP": {p: serving, csr: csr{Subject: node, IPAddresses: []net.IP{net.IPv4zero}}, want: []string{"0.0.0.0"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := c.key
			if k == nil {
				k = key
			}
			_, err := CheckCSR(rawCSR(t, k, c.csr), requestFor(c.p))
			wantFaults(t, err, c.want)
		})
	}
}

func TestCSRSignatureAndForm(t *testing.T) {
	t.Parallel()
	key, keyPEM := mustKey(t, ECDSAP256)
	r := requestFor(mustProfile(t, Kubelet))
	good := mustCSR(t, key, r)
	block, _ := pem.Decode(good)
	block.Bytes[len(block.Bytes)-1] ^= 1
	_, err := CheckCSR(pem.EncodeToMemory(block), r)
	wantFaults(t, err, []string{"signature"})
	for name, data := range map[string][]byte{
		"empty":    nil,
		"a key":    keyPEM,
		"two":      append(append([]byte{}, good...), good...),
		"trailing": append(append([]byte{}, good...), "x"...),
		"leading":  append([]byte("x\n"), good...),
		"huge":     []byte(strings.Repeat("x", maxPEM+1)),
		"cut":      good[:len(good)/2],
	} {
		if _, err := CheckCSR(data, r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRequestIsRefused(t *testing.T) {
	t.Parallel()
	key, _ := mustKey(t, ECDSAP256)
	kubelet := mustProfile(t, Kubelet)
	names := requestFor(kubelet).Names
	for want, r := range map[string]Request{
		"names no profile":         {},
		"52":                       {Profile: kubelet, Node: strings.Repeat("n", 53), Names: names},
		"node name is empty":       {Profile: kubelet, Names: names},
		`label "Node"`:             {Profile: kubelet, Node: "Node", Names: names},
		"at least one name":        {Profile: kubelet, Node: "a"},
		"carries no names":         {Profile: mustProfile(t, Proxy), Names: names},
		"8760h0m0s at most":        {Profile: kubelet, Node: "a", Names: names, Life: 366 * day},
		"a life of -1s":            {Profile: kubelet, Node: "a", Names: names, Life: -time.Second},
		"write it as an IP":        {Profile: kubelet, Node: "a", Names: Names{DNS: []string{"10.0.0.1"}}},
		"has a zone":               {Profile: kubelet, Node: "a", Names: Names{IPs: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}}},
		"its holder makes the req": {Profile: mustProfile(t, APIClient)},
	} {
		if _, err := NewCSR(key, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, kt := range []KeyType{"", ECDSAP256, RSA2048} {
		key, data := mustKey(t, kt)
		back, err := ParseKey(data)
		if err != nil || !samePublic(back.Public(), key.Public()) {
			t.Fatalf("%s: %v", kt, err)
		}
		if want, _ := ParseKeyType(string(kt)); KeyTypeOf(back.Public()) != want {
			t.Errorf("%q became %q", kt, KeyTypeOf(back.Public()))
		}
	}
	if _, _, err := NewKey("dsa"); err == nil || !strings.Contains(err.Error(), "rsa-2048") {
		t.Error(err)
	}
	key, _ := mustKey(t, RSA2048)
	old := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))})
	if _, err := ParseKey(old); err != nil {
		t.Error(err)
	}
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "x"}, Bytes: []byte("s3cret")})
	if _, err := ParseKey(encrypted); err == nil || !strings.Contains(err.Error(), "encrypted") || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

func FuzzCSR(f *testing.F) {
	key, _, err := NewKey(ECDSAP256)
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{Kubelet, Proxy} {
		f.Add(mustCSR(f, key, requestFor(mustProfile(f, name))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := requestFor(mustProfile(t, Kubelet))
		csr, err := CheckCSR(data, r)
		if err != nil {
			return
		}
		if csr.Subject.CommonName != "system:node:node-a" || !NamesOf(csr.DNSNames, csr.IPAddresses).Without(r.Names).Empty() {
			t.Fatalf("passed: %v %v", csr, err)
		}
	})
}

func FuzzCertificate(f *testing.F) {
	ca := makeAuthority(f, "ca", nil, inTenYears())
	key, keyPEM := mustKey(f, ECDSAP256)
	r := requestFor(mustProfile(f, Kubelet))
	csr := mustCSR(f, key, r)
	f.Add(ca.sign(f, csr, r.Profile, day, nil))
	f.Add(ca.pem)
	f.Add(keyPEM)
	parsed := mustParse(f, csr)
	f.Fuzz(func(t *testing.T, data []byte) {
		e := Expect{CSR: parsed, Request: r, Trust: ca.trust(), Now: now()}
		if err := CheckCertificate(data, e); err == nil && len(Judge(data, Want{Profile: r.Profile, Node: r.Node, Names: r.Names, Trust: e.Trust}, now())) > 0 {
			t.Fatal("passed, but is judged")
		}
		_, _ = InspectBundle(data)
		_, _ = ParseKey(data)
	})
}

// BenchmarkNode makes all keys and requests of a node: what mk itself costs at a first start, without the authority.
func BenchmarkNode(b *testing.B) {
	for _, kt := range []KeyType{ECDSAP256, RSA2048} {
		b.Run(string(kt), func(b *testing.B) {
			for b.Loop() {
				for _, p := range Profiles() {
					if p.File == "" {
						continue
					}
					key, _ := mustKey(b, kt)
					mustCSR(b, key, requestFor(p))
				}
			}
		})
	}
}
