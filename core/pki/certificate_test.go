package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every profile's request passes the check before signing, and its certificate the one after, with either type of key.
func TestEveryProfileIsIssued(t *testing.T) {
	t.Parallel()
	ca := makeAuthority(t, "ca", nil, inTenYears())
	for _, kt := range []KeyType{ECDSAP256, RSA2048} {
		key, _ := mustKey(t, kt)
		for _, p := range Profiles() {
			t.Run(string(kt)+"/"+p.Name, func(t *testing.T) {
				t.Parallel()
				r := requestFor(p)
				if p.freeSubject() {
					if _, err := NewCSR(key, r); err == nil {
						t.Fatal("made a request that only its holder can make")
					}
					return
				}
				csr := mustCSR(t, key, r)
				parsed, err := CheckCSR(csr, r)
				if err != nil {
					t.Fatal(err)
				}
				cert := ca.sign(t, csr, p, p.MaxLife, nil)
				if err := CheckCertificate(cert, Expect{CSR: parsed, Request: r, Trust: ca.trust(), Now: now()}); err != nil {
					t.Fatal(err)
				}
				w := Want{Profile: p, Node: r.Node, Names: r.Names, Key: key.Public(), KeyType: kt, Trust: ca.trust()}
				if reasons := Judge(cert, w, now()); len(reasons) > 0 {
					t.Fatalf("judged %v", reasons)
				}
			})
		}
	}
}

func TestProfilesAreConsistent(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range Profiles() {
		if f := p.CertFile(); f != "" && seen[f] {
			t.Errorf("%s: file %s is used twice", p.Name, f)
		} else if f != "" {
			seen[f] = true
		}
		if !p.Server && !p.Client || p.MaxLife <= 0 || !slices.Contains(Authorities(), p.Authority) {
			t.Errorf("%s: incomplete", p.Name)
		}
		if p.KeyUsage(ECDSAP256) != x509.KeyUsageDigitalSignature {
			t.Errorf("%s: an elliptic key signs only", p.Name)
		}
		if got, ok := ForSigner(p.Signer); ok != (p.Signer != "") || ok && got.Name != p.Name {
			t.Errorf("%s: signer %q leads to %q", p.Name, p.Signer, got.Name)
		}
	}
	// The files that MicroK8s' users and tools expect.
	for _, f := range []string{"server", "front-proxy-client", "client", "kubelet", "proxy", "scheduler", "controller", "apiserver-kubelet-client"} {
		if !seen["certs/"+f+".crt"] {
			t.Errorf("no profile makes certs/%s.crt", f)
		}
	}
	if _, err := Find("root"); err == nil || !strings.Contains(err.Error(), "kubelet-serving") {
		t.Errorf("an unknown profile must list the known: %v", err)
	}
}

func TestSignedCertificateIsRefused(t *testing.T) {
	t.Parallel()
	ca := makeAuthority(t, "ca", nil, inTenYears())
	other := makeAuthority(t, "other", nil, inTenYears())
	short := makeAuthority(t, "short", nil, now().Add(24*time.Hour))
	key, _ := mustKey(t, ECDSAP256)
	stranger, _ := mustKey(t, ECDSAP256)
	r := requestFor(mustProfile(t, Kubelet))
	r.Life = 90 * day
	csr := mustCSR(t, key, r)
	cases := map[string]struct {
		by     *authority
		spoil  func(*x509.Certificate)
		expect func(*Expect)
		want   []string
	}{
		"good":         {},
		"shorter life": {spoil: func(c *x509.Certificate) { c.NotAfter = now().Add(time.Hour) }},
		"pending for days": {spoil: func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now().AddDate(0, 0, -3), now().AddDate(0, 0, 87) },
			expect: func(e *Expect) { e.AskedAt = now().AddDate(0, 0, -3) }},
		"longer life":   {spoil: func(c *x509.Certificate) { c.NotAfter = now().Add(91 * day) }, want: []string{"were asked"}},
		"backdated":     {spoil: func(c *x509.Certificate) { c.NotBefore = now().Add(-time.Hour) }, want: []string{"before it was asked"}},
		"future":        {spoil: func(c *x509.Certificate) { c.NotBefore = now().Add(time.Minute) }, want: []string{"clocks differ"}},
		"ended":         {spoil: func(c *x509.Certificate) { c.NotAfter = now().Add(-time.Minute) }, want: []string{"ended"}},
		"another key":   {spoil: func(c *x509.Certificate) { c.PublicKey = stranger.Public() }, want: []string{"another key"}},
		"authority":     {spoil: func(c *x509.Certificate) { c.IsCA = true }, want: []string{"it is an authority"}},
		"may sign":      {spoil: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, want: []string{"keyCertSign"}},
		"enciphers":     {spoil: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }, want: []string{"keyEncipherment is not allowed"}},
		"no usage":      {spoil: func(c *x509.Certificate) { c.KeyUsage = 0 }, want: []string{"digitalSignature is missing"}},
		"one usage":     {spoil: func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }, want: []string{"clientAuth is missing"}},
		"any usage":     {spoil: func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }, want: []string{"any is not allowed"}},
		"unknown usage": {spoil: func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }, want: []string{"1.2.3"}},
		"other name":    {spoil: func(c *x509.Certificate) { c.DNSNames = []string{"node-b"} }, want: []string{`"DNS:node-a" missing`, `"DNS:node-b" not asked`}},
		"URI":           {spoil: func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }, want: []string{"kind 6"}},
		"admin":         {spoil: func(c *x509.Certificate) { c.Subject.Organization = []string{"system:masters"} }, want: []string{"organizations"}},
		"another node":  {spoil: func(c *x509.Certificate) { c.Subject.CommonName = "system:node:b" }, want: []string{"system:node:b"}},
		"more subject":  {spoil: func(c *x509.Certificate) { c.Subject.Country = []string{"GB"} }, want: []string{"attribute 2.5.4.6"}},
		"long serial":   {spoil: func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 159) }, want: []string{"serial number"}},
		"critical": {spoil: func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}, want: []string{"1.2.3.4 is not understood"}},
		"wrong issuer":   {by: other, want: []string{"as serverAuth", "as clientAuth", "unknown authority"}},
		"outlives":       {by: short, expect: func(e *Expect) { e.Trust = short.trust() }, want: []string{"authority ends before it"}},
		"no bundle":      {expect: func(e *Expect) { e.Trust.Clients = nil }, want: []string{"as clientAuth", "no certificate"}},
		"clients differ": {expect: func(e *Expect) { e.Trust.Clients = other.pem }, want: []string{"as clientAuth"}},
		"everything": {by: other, spoil: func(c *x509.Certificate) {
			c.IsCA, c.DNSNames, c.NotAfter, c.PublicKey = true, nil, now().AddDate(20, 0, 0), stranger.Public()
		}, want: []string{"another key", "it is an authority", "DNS:node-a", "were asked", "unknown authority"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			by := c.by
			if by == nil {
				by = ca
			}
			e := Expect{CSR: mustParse(t, csr), Request: r, Trust: ca.trust(), Now: now()}
			if c.expect != nil {
				c.expect(&e)
			}
			wantFaults(t, CheckCertificate(by.sign(t, csr, r.Profile, r.Life, c.spoil), e), c.want)
		})
	}
}

func wantFaults(t *testing.T, err error, want []string) {
	t.Helper()
	if len(want) == 0 && err != nil {
		t.Fatalf("refused: %v", err)
	}
	if len(want) > 0 && err == nil {
		t.Fatalf("accepted; want %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
}

// An intermediate in the chain, and clients trusted by the intermediate alone.
func TestChainOfACompany(t *testing.T) {
	t.Parallel()
	root := makeAuthority(t, "company", nil, inTenYears())
	mine := makeAuthority(t, "cluster", root, inTenYears())
	key, _ := mustKey(t, ECDSAP256)
	r := requestFor(mustProfile(t, Server))
	csr := mustCSR(t, key, r)
	cert := mine.sign(t, csr, r.Profile, r.Profile.MaxLife, nil)
	e := Expect{CSR: mustParse(t, csr), Request: r, Now: now(), Trust: Trust{Servers: root.pem, Clients: mine.pem}}
	sent, err := WithChain(cert, mine.pem)
	if err != nil {
		t.Fatal(err)
	}
	wantFaults(t, CheckCertificate(sent, e), nil)
	if again, err := WithChain(sent, mine.pem); err != nil || !slices.Equal(again, sent) {
		t.Errorf("a chain was sent twice: %v", err)
	}
	w := Want{Profile: r.Profile, Node: r.Node, Names: r.Names, Key: key.Public(), Trust: e.Trust}
	if reasons := Judge(sent, w, now()); len(reasons) > 0 {
		t.Errorf("judged %v", reasons)
	}
	wantFaults(t, CheckCertificate(cert, e), []string{"as serverAuth"})
	e.Trust = Trust{Servers: cert, Clients: cert}
	wantFaults(t, CheckCertificate(cert, e), []string{"itself in the bundle"})
}

// An authority that is good for one usage verifies no other, whichever is
// looked at first.
func TestAuthorityForSomeUsages(t *testing.T) {
	t.Parallel()
	key, _ := mustKey(t, ECDSAP256)
	r := requestFor(mustProfile(t, Kubelet))
	csr := mustCSR(t, key, r)
	for usage, want := range map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "as clientAuth", x509.ExtKeyUsageClientAuth: "as serverAuth"} {
		ca := makeAuthority(t, "half", nil, inTenYears(), usage)
		err := CheckCertificate(ca.sign(t, csr, r.Profile, day, nil), Expect{CSR: mustParse(t, csr), Request: r, Trust: ca.trust(), Now: now()})
		wantFaults(t, err, []string{want})
		if strings.Count(err.Error(), ", by authority") != 1 {
			t.Errorf("not good for one usage: %v", err)
		}
	}
}

// After a certificate come authorities, and nothing else.
func TestWhatFollowsACertificate(t *testing.T) {
	t.Parallel()
	ca := makeAuthority(t, "ca", nil, inTenYears())
	key, _ := mustKey(t, ECDSAP256)
	r := requestFor(mustProfile(t, Server))
	cert := ca.sign(t, mustCSR(t, key, r), r.Profile, r.Profile.MaxLife, nil)
	for follows, want := range map[string]string{
		string(cert): "no authority",
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n":                  "no certificate",
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + string(ca.pem): "only certificates belong there",
		"text\n" + string(ca.pem): "no certificate",
		string(ca.pem) + "text\n": "no certificate",
	} {
		if _, _, err := ParseSent(append(slices.Clone(cert), follows...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("followed by %q: %v, want %q", follows, err, want)
		}
	}
	if leaf, between, err := ParseSent(append(slices.Clone(cert), ca.pem...)); err != nil || len(between) != 1 || leaf.IsCA {
		t.Errorf("%d authorities follow: %v", len(between), err)
	}
}

func TestJudgeNamesEachReason(t *testing.T) {
	t.Parallel()
	ca := makeAuthority(t, "ca", nil, inTenYears())
	other := makeAuthority(t, "other", nil, inTenYears())
	key, _ := mustKey(t, ECDSAP256)
	rsa, _ := mustKey(t, RSA2048)
	p := mustProfile(t, Kubelet)
	r := requestFor(p)
	csr := mustCSR(t, key, r)
	begin := now().Add(-5 * time.Minute)
	cert := ca.sign(t, csr, p, 300*day-5*time.Minute, nil) // 300 days in all
	good := Want{Profile: p, Node: "node-a", Names: r.Names, Key: key.Public(), KeyType: ECDSAP256, Trust: ca.trust()}
	cases := map[string]struct {
		at     time.Time
		change func(*Want)
		want   []Code
	}{
		"good":             {at: now()},
		"before due":       {at: begin.Add(200*day - time.Second)},
		"due":              {at: begin.Add(200 * day), want: []Code{Expiring}},
		"last second":      {at: begin.Add(300 * day), want: []Code{Expiring}},
		"expired":          {at: begin.Add(300*day + time.Second), want: []Code{HasExpired}},
		"not yet":          {at: begin.Add(-time.Second), want: []Code{NotYet}},
		"fewer names fine": {at: now(), change: func(w *Want) { w.Names.IPs = nil }},
		"new address":      {at: now(), change: func(w *Want) { w.Names.IPs = append(slices.Clone(w.Names.IPs), netip.MustParseAddr("10.9.9.9")) }, want: []Code{MissingName}},
		"issuer":           {at: now(), change: func(w *Want) { w.Trust = other.trust() }, want: []Code{WrongIssuer}},
		"key":              {at: now(), change: func(w *Want) { w.Key = rsa.Public() }, want: []Code{KeyMismatch}},
		"setting":          {at: now(), change: func(w *Want) { w.KeyType = RSA2048 }, want: []Code{OtherKeyType}},
		"node":             {at: now(), change: func(w *Want) { w.Node = "b" }, want: []Code{WrongSubject}},
		"profile":          {at: now(), change: func(w *Want) { w.Profile = mustProfile(t, KubeletClient) }, want: []Code{WrongForm}},
		"two at once":      {at: begin.Add(400 * day), change: func(w *Want) { w.Trust = other.trust() }, want: []Code{WrongIssuer, HasExpired}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := good
			if c.change != nil {
				c.change(&w)
			}
			var got []Code
			for _, reason := range Judge(cert, w, c.at) {
				got = append(got, reason.Code)
				if urgent := reason.Code != Expiring && reason.Code != OtherKeyType; reason.Urgent() != urgent {
					t.Errorf("%s: urgent %v", reason.Code, !urgent)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v instead of %v", got, c.want)
			}
		})
	}
	if got := Judge([]byte("changeme"), good, now()); len(got) != 1 || got[0].Code != Unreadable {
		t.Errorf("garbage: %v", got)
	}
}

func TestInspectShowsWhatIsInside(t *testing.T) {
	t.Parallel()
	ca := makeAuthority(t, "ca", nil, inTenYears())
	key, _ := mustKey(t, RSA2048)
	r := requestFor(mustProfile(t, Kubelet))
	cert := ca.sign(t, mustCSR(t, key, r), r.Profile, 30*day, func(c *x509.Certificate) { c.NotBefore = now() })
	one, err := InspectBundle(cert)
	if err != nil || len(one) != 1 {
		t.Fatal(one, err)
	}
	i := one[0]
	if i.CommonName != "system:node:node-a" || !slices.Equal(i.Groups, []string{"system:nodes"}) || i.Key != "rsa-2048" || i.CA ||
		!slices.Equal(i.Names, []string{"DNS:node-a", "IP:10.0.0.5", "IP:fd00::5"}) || !i.RenewAt.Equal(now().Add(20*day)) ||
		!slices.Equal(i.Usages, []string{"digitalSignature", "keyEncipherment", "serverAuth", "clientAuth"}) || i.Issuer != "CN=ca" {
		t.Errorf("%+v", i)
	}
	all, err := InspectBundle(append(slices.Clone(ca.pem), ca.pem...))
	if err != nil || len(all) != 2 || !all[0].CA {
		t.Errorf("%+v %v", all, err)
	}
	// A certificate without an end (9999) must not overflow.
	forever := &x509.Certificate{NotBefore: now(), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	if at := RenewAt(forever); !at.After(now().AddDate(100, 0, 0)) {
		t.Errorf("renewed at %s", at)
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	ca := makeAuthority(t, "ca", nil, inTenYears())
	newest := NewestNotBefore(nil, []byte("garbage"), ca.pem)
	if !newest.Equal(now().Add(-time.Hour)) {
		t.Fatal(newest)
	}
	floor := ClockFloor(now().AddDate(-1, 0, 0), newest)
	if err := CheckClock(now(), floor); err != nil {
		t.Error(err)
	}
	if err := CheckClock(now().Add(-2*time.Hour), floor); err == nil || !strings.Contains(err.Error(), "2026-03-01T11:00:00Z") {
		t.Error(err)
	}
	if !ClockFloor(now(), time.Time{}).Equal(now()) {
		t.Error("the build counts when there is no certificate")
	}
}

// Names that crypto/x509 cannot tell from DNS names are looked for in the raw extension.
func TestSANKinds(t *testing.T) {
	t.Parallel()
	other, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: net.IPv4(1, 2, 3, 4).To4()},
		{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: []byte{6, 1, 42}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := checkSAN(other); err == nil {
		t.Error("an otherName passed")
	}
	if err := checkSAN([]byte{1, 2, 3}); err == nil {
		t.Error("garbage passed")
	}
}
