//go:build cluster

package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// whole looks whether Kubernetes is: every API that it serves by itself, who
// may do what, and what admission does, as a conformance test would find it.
func whole(t *testing.T, m *machine) {
	t.Helper()
	want, err := os.ReadFile("testdata/api-resources.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := m.kubectl("api-resources", "--no-headers", "-o", "name", "--sort-by=name"); got != string(want) {
		t.Errorf("resources served:\n%s\nwant\n%s", got, want)
	}
	features := m.kubectl("get", "--raw", "/metrics")
	general := 0
	for line := range strings.Lines(features) {
		if name, ok := strings.CutPrefix(line, "kubernetes_feature_enabled{"); ok && strings.Contains(name, `stage=""`) {
			general++
			if !strings.HasSuffix(strings.TrimSpace(name), " 1") {
				t.Errorf("a feature that everybody has is off: %s", name)
			}
		}
	}
	if general < 20 {
		t.Errorf("%d features are generally available", general)
	}
	rights(t, m)
	discovery(t, m)
}

// rights has the API server judge what others may do.
func rights(t *testing.T, m *machine) {
	t.Helper()
	node, other := []string{"--as=system:node:node-o", "--as-group=system:nodes"}, []string{"--as=system:node:other", "--as-group=system:nodes"}
	for _, c := range []struct {
		who  []string
		may  bool
		what string
	}{
		{[]string{"--as=jane"}, false, "auth can-i list secrets -A"}, // RBAC
		{[]string{"--as=jane"}, true, "auth can-i create selfsubjectreviews.authentication.k8s.io"},
		{node, true, "auth can-i list services --all-namespaces"}, // no role says so: the Node authorizer does
		{node, false, "auth can-i list secrets --all-namespaces"},
		{node, false, "auth can-i get secrets/mk -n kube-system"},
		{node, true, "annotate node node-o mk.test/a=b --dry-run=server"},
		{node, false, "label node node-o node-role.kubernetes.io/master=x --dry-run=server"}, // NodeRestriction
		{other, false, "annotate node node-o mk.test/a=b --dry-run=server"},
	} {
		words := append(strings.Fields(c.what), c.who...)
		out, err := m.try(patience, "mk", append([]string{"kubectl"}, words...)...)
		if (err == nil) != c.may {
			t.Errorf("kubectl %s: %s %v", strings.Join(words, " "), out, err)
		}
	}
	// Admission that is on by itself.
	pod := func(namespace, spec string) error {
		file := filepath.Join(t.TempDir(), "pod.yaml")
		text := "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: " + namespace + "}\nspec: " + spec + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := m.try(patience, "mk", "kubectl", "apply", "--dry-run=server", "-f", file)
		return err
	}
	m.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: strict, labels: {pod-security.kubernetes.io/enforce: restricted}}\n" +
		"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: small}\n" +
		"---\napiVersion: v1\nkind: LimitRange\nmetadata: {name: small, namespace: small}\nspec: {limits: [{type: Container, max: {memory: 1Mi}, default: {memory: 1Mi}, defaultRequest: {memory: 1Mi}}]}\n")
	const large, privileged = "{containers: [{name: c, image: x, resources: {limits: {memory: 2Mi}}}]}", "{containers: [{name: c, image: x, securityContext: {privileged: true}}]}"
	if err := pod("default", privileged); err != nil {
		t.Errorf("a privileged pod: %v", err)
	}
	if err := pod("strict", privileged); err == nil || !strings.Contains(err.Error(), "violates PodSecurity") {
		t.Errorf("a privileged pod where that is not allowed: %v", err)
	}
	if err := pod("small", large); err == nil || !strings.Contains(err.Error(), "maximum memory usage") {
		t.Errorf("a pod where only small ones may be: %v", err)
	}
	m.kubectl("delete", "namespace", "strict", "small", "--wait=false")
}

// discovery checks a token as another program does: by what the API server
// publishes of its issuer, at the address that stands there.
func discovery(t *testing.T, m *machine) {
	t.Helper()
	var issuer struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	text := m.kubectl("get", "--raw", "/.well-known/openid-configuration")
	if err := json.Unmarshal([]byte(text), &issuer); err != nil || issuer.Issuer != "https://kubernetes.default.svc" {
		t.Errorf("%v\n%s", err, text)
	}
	token := strings.TrimSpace(m.kubectl("create", "token", "default"))
	if keys := m.run("curl", "-fsS", "--cacert", filepath.Join(m.Root, "certs/ca.crt"), "-H", "Authorization: Bearer "+token, issuer.Keys); !strings.Contains(keys, `"kid"`) {
		t.Errorf("%s: %s", issuer.Keys, keys)
	}
}

// edits adds a name to csr.conf.template, as people do, and waits for it.
func edits(t *testing.T, m *machine) {
	t.Helper()
	file := filepath.Join(m.Root, "certs/csr.conf.template")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	with := strings.Replace(string(text), "#MOREIPS\n", "DNS.77 = api.example.com\n#MOREIPS\n", 1)
	before := kubelites(t, m)
	if err := os.WriteFile(file, []byte(with), 0o640); err != nil { //nolint:gosec // names
		t.Fatal(err)
	}
	m.eventually(patience, func() error {
		_, err := m.try(patience, "curl", "-fsS", "--cacert", filepath.Join(m.Root, "certs/ca.crt"), "--resolve", "api.example.com:16443:"+m.Address, "https://api.example.com:16443/readyz")
		return err
	})
	if now := kubelites(t, m); now != before {
		t.Errorf("kubelite was restarted: %s, before %s", now, before)
	}
	rendered, err := os.ReadFile(filepath.Join(m.Root, "certs/csr.conf.rendered"))
	if err != nil || !strings.Contains(string(rendered), "DNS.77 = api.example.com\nIP.3 = "+m.Address) {
		t.Errorf("%v\n%s", err, rendered)
	}
}
