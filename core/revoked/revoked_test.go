package revoked_test

import (
	"slices"
	"strings"
	"testing"

	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/revoked"
)

// Each certificate that is made for a node's programs, as a client of an API
// server, says of which node it is.
func TestNode(t *testing.T) {
	t.Parallel()
	others := 0
	for _, p := range pki.Profiles() {
		name, is := revoked.Node(p.Subject("n2"), p.GroupsOf("n2"))
		if is && name != "n2" || is != p.PerNode() {
			t.Errorf("%s is node %q's, %v; per node: %v", p.Name, name, is, p.PerNode())
		}
		if !is {
			others++
		}
	}
	if others == 0 || others == len(pki.Profiles()) {
		t.Errorf("%d of %d are no node's", others, len(pki.Profiles()))
	}
	for _, who := range []string{"", "n2", "system:node:", "mk:node", "mk:flanneld:", "system:kube-proxy", "system:nodes:n2"} {
		if name, is := revoked.Node(who, []string{"system:authenticated", "mk:proxy:", who}); is {
			t.Errorf("%q is node %q", who, name)
		}
	}
	longest := strings.Repeat("n", 52)
	if pki.CheckNodeName(longest) != nil || pki.CheckNodeName(longest+"n") == nil {
		t.Error("the longest name of a node is another one")
	}
	proxy, err := pki.Find(pki.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	// X.509's upper bound of an organization (RFC 5280, ub-organization-name).
	if i := slices.IndexFunc(proxy.GroupsOf(longest), func(g string) bool { return len(g) > 64 }); i >= 0 {
		t.Error("a certificate cannot hold the group of the longest name")
	}
}
