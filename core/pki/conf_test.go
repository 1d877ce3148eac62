package pki

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func addrs(s ...string) []netip.Addr {
	out := make([]netip.Addr, 0, len(s))
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestDefaultTemplateRenders(t *testing.T) {
	t.Parallel()
	tmpl := DefaultTemplate(addrs("10.152.183.1")...)
	if !strings.Contains(string(tmpl), "IP.1 = 127.0.0.1\nIP.2 = 10.152.183.1\n") || strings.Contains(string(tmpl), "SERVICEIPS") {
		t.Fatalf("%s", tmpl)
	}
	a, err := Render("t", tmpl, addrs("192.168.1.7", "fd00::7", "192.168.1.7", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Render("t", tmpl, addrs("fd00::7", "192.168.1.7"))
	if err != nil || string(a) != string(b) {
		t.Errorf("order or repetition makes a difference: %v", err)
	}
	if !strings.Contains(string(a), "IP.3 = 192.168.1.7\nIP.4 = fd00::7\n") || strings.Contains(string(a), "\n#MOREIPS") {
		t.Errorf("%s", a)
	}
	c, err := ParseConf("r", a)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Names()
	want := BaseNames(addrs("10.152.183.1", "192.168.1.7", "fd00::7")...)
	if err != nil || !slices.Equal(got.Strings(), want.Strings()) {
		t.Errorf("%v instead of %v: %v", got, want, err)
	}
	if ip := FirstServiceIP(netip.MustParsePrefix("10.152.183.0/24")); ip.String() != "10.152.183.1" {
		t.Error(ip)
	}
	if two := DefaultTemplate(addrs("10.1.0.1", "fd01::1")...); !strings.Contains(string(two), "IP.2 = 10.1.0.1\nIP.3 = fd01::1\n") {
		t.Errorf("%s", two)
	}
}

// What people do to the file: MicroK8s' own text, numbers with gaps, names in the extension itself.
func TestEditedTemplate(t *testing.T) {
	t.Parallel()
	const microk8s = `[ req ]
default_bits = 2048
prompt = no
default_md = sha256
req_extensions = req_ext
distinguished_name = dn

[ dn ]
C = GB
ST = Canonical
OU = Canonical
CN = 127.0.0.1

[ req_ext ]
subjectAltName = @alt_names

[ alt_names ]
DNS.1 = kubernetes   # a comment
DNS.77 = "api.Example.com"
DNS.9 = *.example.com
IP.4 = 10.9.9.9
IP.1 = 127.0.0.1
#MOREIPS

[ v3_ext ]
authorityKeyIdentifier=keyid,issuer:always
basicConstraints=CA:FALSE
keyUsage=keyEncipherment,dataEncipherment,digitalSignature
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=critical, @alt_names, DNS:inline.example, IP:fd00::9
`
	out, err := Render("t", []byte(microk8s), addrs("10.0.0.1", "10.0.0.2", "10.0.0.3"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "IP.3 = 10.0.0.1\nIP.5 = 10.0.0.2\nIP.6 = 10.0.0.3\n") {
		t.Errorf("numbers in use must be skipped:\n%s", out)
	}
	c, err := ParseConf("r", out)
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.Names()
	if got := strings.Join(n.Strings(), " "); err != nil || got != "DNS:*.example.com DNS:api.example.com DNS:inline.example DNS:kubernetes "+
		"IP:10.0.0.1 IP:10.0.0.2 IP:10.0.0.3 IP:10.9.9.9 IP:127.0.0.1 IP:fd00::9" {
		t.Errorf("%s %v", got, err)
	}
	opted := strings.Replace(microk8s, "#MOREIPS\n", "", 1)
	if out, err := Render("t", []byte(opted), addrs("10.0.0.1")); err != nil || string(out) != opted {
		t.Errorf("without the line, nothing is added: %v", err)
	}
}

func TestWrongTemplate(t *testing.T) {
	t.Parallel()
	const head = "[v3_ext]\nsubjectAltName=@a\n[a]\n"
	for text, want := range map[string]string{
		"":                                   "no subjectAltName",
		"[x\n":                               "f:1: a section",
		"nonsense\n":                         "f:1: expected key = value",
		head + "DNS.1 = a\nDNS.1 = b\n":      "f:5: DNS.1 is set already in line 4",
		head + "DNS.1 = 10.0.0.1\n":          "f:4: DNS name \"10.0.0.1\" is an address",
		head + "IP.1 = example.com\n":        "f:4: \"example.com\" is no address",
		head + "IP.1 = fe80::1%eth0\n":       "f:4: address fe80::1%eth0 has a zone",
		head + "IP.1 = 0.0.0.0\n":            "f:4: address 0.0.0.0",
		head + "DNS.1 = a_b\n":               "f:4: DNS name \"a_b\"",
		head + "DNS.1 =\n":                   "f:4: DNS name \"\"",
		head + "email.1 = a@b.c\n":           "f:4: \"email\" is not supported",
		head + "DNS.1 = $ENV::HOME\n":        "f:4: variables",
		head + "DNS.1 = a\\\n":               "f:4: variables and escapes",
		head + "DNS.1 = \"a\n":               "f:4: the quotes",
		head + "DNS.1 = a\x01b\n":            "f:4: a control character",
		head + ".include /etc/passwd\n":      "f:4: expected key",
		"[v3_ext]\nsubjectAltName=@gone\n":   "f:2: there is no section",
		head + "IP=1.2.3.4\n[b]\n#MOREIPS":   "f:6: #MOREIPS stands in [ b ]",
		strings.Repeat("#\n", maxConf):       "more than",
		head + "x\ny\nDNS.1 = a\n":           "f:5: expected",
		"[v3_ext]\nsubjectAltName=DNS:a b\n": "f:2: DNS name",
	} {
		_, err := Render("f", []byte(text), addrs("10.0.0.1"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: want %q in: %v", text, want, err)
		}
	}
}

func FuzzConf(f *testing.F) {
	f.Add(string(DefaultTemplate(addrs("10.152.183.1")...)))
	f.Add("[v3_ext]\nsubjectAltName=@a,DNS:x\n[a]\nIP.3=::1\n#MOREIPS")
	f.Fuzz(func(t *testing.T, text string) {
		more := addrs("10.0.0.1", "fd00::1")
		out, err := Render("f", []byte(text), more)
		if err != nil {
			return
		}
		c, err := ParseConf("r", out)
		if err != nil {
			t.Fatalf("rendered text is refused: %v\n%s", err, out)
		}
		names, err := c.Names()
		if err != nil {
			t.Fatalf("rendered names are refused: %v\n%s", err, out)
		}
		before, err := ParseConf("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if missing := (Names{IPs: more}).Without(names); before.markLine > 0 && !missing.Empty() {
			t.Fatalf("%v missing in\n%s", missing, out)
		}
	})
}
