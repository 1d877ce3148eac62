package membership

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/microk8s"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

// asked is a request as MicroK8s' clients make it.
func asked(t *testing.T, name, group string, dns []string, ips ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, DNSNames: dns}
	if group != "" {
		template.Subject.Organization = []string{group}
	}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestAGuestGetsWhatItsRecordGives(t *testing.T) {
	t.Parallel()
	n := Of(&operation.Node{Record: &node.Record{Network: node.Network{PodCIDR: "10.1.0.0/16", ServiceCIDR: "10.152.183.0/24"}}})
	m := &cluster.Member{Name: "w1", Address: "10.0.0.2"}
	others := []*cluster.Member{{Name: "n1", Address: "10.0.0.1", Addresses: []string{"192.168.0.1"}}}
	const who, group = "system:node:w1", "system:nodes"
	for name, c := range map[string]struct {
		profile string
		csr     []byte
		granted []string // nil: refused
	}{
		"a kubelet":                 {pki.Kubelet, asked(t, who, group, []string{"w1"}, "10.0.0.2"), []string{"10.0.0.2"}},
		"all of its addresses":      {pki.Kubelet, asked(t, who, group, []string{"w1"}, "10.0.0.2", "172.17.0.1", "fd00::2"), []string{"10.0.0.2", "172.17.0.1", "fd00::2"}},
		"those of others, too":      {pki.Kubelet, asked(t, who, group, []string{"w1"}, "10.0.0.2", "10.0.0.1", "192.168.0.1", "10.152.183.1", "10.1.2.3"), []string{"10.0.0.2"}},
		"no address":                {pki.Kubelet, asked(t, who, group, []string{"w1"}), []string{}},
		"those of others alone":     {pki.Kubelet, asked(t, who, group, nil, "10.0.0.1"), nil},
		"another node":              {pki.Kubelet, asked(t, "system:node:n1", group, []string{"w1"}), nil},
		"another's name":            {pki.Kubelet, asked(t, who, group, []string{"w1", "n1"}), nil},
		"the API server's name":     {pki.Kubelet, asked(t, who, group, []string{"kubernetes"}), nil},
		"an administrator":          {pki.Kubelet, asked(t, "admin", "system:masters", nil), nil},
		"an administrator's group":  {pki.Kubelet, asked(t, who, "system:masters", []string{"w1"}), nil},
		"a proxy":                   {pki.Proxy, asked(t, "system:kube-proxy", "", nil), []string{}},
		"a proxy that names itself": {pki.Proxy, asked(t, "system:kube-proxy", "mk:proxy:w1", nil), []string{}},
		"a proxy of another node":   {pki.Proxy, asked(t, "system:kube-proxy", "mk:proxy:n1", nil), nil},
		"a proxy with names":        {pki.Proxy, asked(t, "system:kube-proxy", "", []string{"w1"}), nil},
		"a proxy that is a kubelet": {pki.Proxy, asked(t, who, group, []string{"w1"}), nil},
		"nonsense":                  {pki.Proxy, []byte("nonsense"), nil},
	} {
		p, err := pki.Find(c.profile)
		if err != nil {
			t.Fatal(err)
		}
		w, err := n.guestWish(m, others, p, c.csr)
		if (err == nil) != (c.granted != nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		got := []string{}
		for _, a := range w.Names.IPs {
			got = append(got, a.String())
		}
		if !slices.Equal(got, c.granted) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Whatever is wrong with a token, the answer is the same; what else is wrong is
// not taken for it.
func TestGuestsHearTheSameOfEveryBadToken(t *testing.T) {
	t.Parallel()
	for _, reason := range []plugin.Reason{plugin.TokenUnknown, plugin.TokenUsed, plugin.TokenExpired, plugin.TokenReserved} {
		err := badToken(&plugin.Error{Reason: reason, Message: "why"})
		r, ok := errors.AsType[*microk8s.Refusal](err)
		if !ok || r.Status != microk8s.StatusFailed || r.Message != "invalid token" || !errors.Is(err, reason) {
			t.Errorf("%s: %v", reason, err)
		}
	}
	if err := badToken(plugin.Errorf(plugin.Unavailable, "no disk")); !errors.Is(err, plugin.Unavailable) {
		t.Error(err)
	}
	for token, want := range map[string]string{"a-kubelet": pki.Kubelet, "a-proxy": pki.Proxy, "a": "", "kubelet": "", "": ""} {
		if p, err := guestProfile(token); p.Name != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s %v", token, p.Name, err)
		}
	}
}

// No caller's key is taken for a guest's.
func TestAGuestsKeyIsNoFingerprint(t *testing.T) {
	t.Parallel()
	key := guestKey("w1", netip.MustParseAddr("10.0.0.2"))
	if key == guestKey("w1", netip.MustParseAddr("10.0.0.3")) || key == guestKey("w2", netip.MustParseAddr("10.0.0.2")) || len(key) == 64 {
		t.Error(key)
	}
}

// A person who decides about a guest decides about the next try as well.
func TestAGuestTriesTheSameJoinAgain(t *testing.T) {
	t.Parallel()
	one := guestOperation("t.1")
	if one != guestOperation("t.1") || one == guestOperation("t.2") || !node.ValidID(one) {
		t.Error(one)
	}
}
