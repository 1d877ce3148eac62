//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/peer"
)

// kept are certificates of a node that somebody has put aside, asking from its
// machine.
type kept struct {
	m       *machine
	dir     string
	clients map[string]*http.Client // by the name of the pair
}

// keep puts the certificates of a node aside.
func keep(t *testing.T, m *machine) *kept {
	t.Helper()
	k := &kept{m: m, dir: t.TempDir(), clients: map[string]*http.Client{}}
	if err := os.CopyFS(k.dir, os.DirFS(filepath.Join(m.Root, "certs"))); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(k.dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, pair := range []string{"node-agent", "kubelet", "flanneld", "proxy"} {
		p, err := tls.LoadX509KeyPair(filepath.Join(k.dir, pair+".crt"), filepath.Join(k.dir, pair+".key"))
		if err != nil {
			t.Fatal(err)
		}
		k.clients[pair] = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{p}, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return m.dial(ctx, network, address)
			},
		}}
	}
	return k
}

// asks is a request with a certificate, and what it is answered.
type asks struct {
	pair, method, path, body string
	want                     int
}

// ask sends a request to a port of a server.
func (k *kept) ask(server *machine, port int, a asks) (status int, body string) {
	k.m.t.Helper()
	req, err := http.NewRequestWithContext(k.m.t.Context(), a.method, fmt.Sprintf("https://%s:%d%s", server.Address, port, a.path), strings.NewReader(a.body))
	if err != nil {
		k.m.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if a.method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := k.clients[a.pair].Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close() //nolint:errcheck // read
	var text bytes.Buffer
	_, _ = text.ReadFrom(resp.Body)
	return resp.StatusCode, text.String()
}

// watch follows something of a server; the answer is closed when that ends.
func (k *kept) watch(server *machine, pair, path string) <-chan struct{} {
	k.m.t.Helper()
	req, err := http.NewRequestWithContext(k.m.t.Context(), http.MethodGet, fmt.Sprintf("https://%s:%d%s?watch=true&timeoutSeconds=3600", server.Address, apiPort, path), http.NoBody)
	if err != nil {
		k.m.t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: k.clients[pair].Transport}).Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		k.m.t.Fatalf("watch %s as %s: %v", path, pair, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}()
	return ended
}

// whileAsking asks all servers again and again, until it is asked how often
// each status was the answer.
func (k *kept) whileAsking(servers []*machine, a asks) (answers func() map[int]int) {
	seen, stop := map[int]int{}, make(chan struct{})
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, s := range servers {
		all.Go(func() {
			often := time.NewTicker(20 * time.Millisecond)
			defer often.Stop()
			for {
				select {
				case <-stop:
					return
				case <-often.C:
				}
				status, _ := k.ask(s, apiPort, a)
				mu.Lock()
				seen[status]++
				mu.Unlock()
			}
		})
	}
	return func() map[int]int {
		close(stop)
		all.Wait()
		return seen
	}
}

func (k *kept) answers(t *testing.T, server *machine, port int, all []asks) {
	t.Helper()
	for _, a := range all {
		status, body := k.ask(server, port, a)
		if status != a.want {
			t.Errorf("%s %s with the certificate %s: %d, want %d\n%.300s", a.method, a.path, a.pair, status, a.want, body)
		}
	}
}

const (
	apiPort        = 16443
	agentPort      = 25000
	mkSystem       = "/api/v1/namespaces/mk-system"
	endpointSlices = "/apis/discovery.k8s.io/v1/endpointslices"
	leases         = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	csrs           = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
)

// removedGetsNothing removes a worker that is off, and looks what somebody who
// has its certificates gets from the cluster: what docs/security-model.md says,
// and nothing else.
func removedGetsNothing(t *testing.T, servers []*machine, m *machine, name, other string) {
	t.Helper()
	server, k := servers[0], keep(t, m)
	wanted := mkSystem + "/secrets/" + cluster.WantedName
	k.answers(t, server, apiPort, []asks{
		{"node-agent", "GET", wanted, "", 200},
		{"kubelet", "GET", "/api/v1/nodes/" + name, "", 200},
		{"flanneld", "PATCH", "/api/v1/nodes/" + name + "/status", `{}`, 200},
		{"flanneld", "PATCH", "/api/v1/nodes/" + other + "/status", `{}`, 422},
		{"kubelet", "PATCH", "/api/v1/nodes/" + other + "/status", `{}`, 403},
		{"kubelet", "PUT", leases + "/" + other, `{}`, 403},
		{"node-agent", "GET", mkSystem + "/secrets", "", 403},
		{"node-agent", "PATCH", "/api/v1/nodes/" + other + "/status", `{}`, 403},
		{"proxy", "GET", "/api/v1/services", "", 200},
		{"proxy", "PATCH", "/api/v1/nodes/" + other + "/status", `{}`, 403},
	})
	node := fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%q}}`, name)
	lease := fmt.Sprintf(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":%q,"namespace":"kube-node-lease"}}`, name)
	event := `{"apiVersion":"v1","kind":"Event","metadata":{"generateName":"removed-","namespace":"default"},"involvedObject":{"namespace":"default"},` +
		`"reportingComponent":"x","reason":"x","type":"Normal"}`
	follows := map[string]<-chan struct{}{}
	for _, s := range servers {
		follows["the kubelet at "+s.Address] = k.watch(s, "kubelet", "/api/v1/services")
		follows["kube-proxy at "+s.Address] = k.watch(s, "proxy", endpointSlices)
		follows["the agent at "+s.Address] = k.watch(s, "node-agent", mkSystem+"/configmaps")
	}
	comesBack := k.whileAsking(servers, asks{pair: "kubelet", method: "POST", path: "/api/v1/nodes", body: node})
	server.run("mk", "remove-node", name, "--force")
	for status, n := range comesBack() {
		// It is there still, or refused; or what was under way at a server, one
		// request, was cut off.
		if t.Log(n, "answers of", status); status != 409 && status != 403 && (status != 504 || n > len(servers)) {
			t.Errorf("%d requests of a removed node to be one were answered with %d", n, status)
		}
	}
	if out, err := server.try(time.Minute, "mk", "kubectl", "get", "node", name); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("a removed node: %s, %v", out, err)
	}
	late := time.After(10 * time.Second)
	for who, ended := range follows {
		select {
		case <-ended:
		case <-late:
			t.Errorf("%s of a removed node follows what it followed before", who)
		}
	}
	for _, s := range servers {
		k.answers(t, s, apiPort, []asks{{"kubelet", "POST", "/api/v1/nodes", node, 403}})
	}
	for _, pair := range []string{"node-agent", "kubelet", "flanneld", "proxy"} {
		k.answers(t, server, apiPort, []asks{
			{pair, "GET", "/readyz", "", 200},
			{pair, "GET", "/version", "", 403},
			{pair, "GET", "/apis", "", 403},
			{pair, "GET", wanted, "", 403},
			{pair, "GET", mkSystem + "/configmaps", "", 403},
			{pair, "PUT", mkSystem + "/configmaps/report." + name, `{}`, 403},
			{pair, "GET", "/api/v1/nodes", "", 403},
			{pair, "GET", "/api/v1/nodes/" + name, "", 403},
			{pair, "PATCH", "/api/v1/nodes/" + name + "/status", `{}`, 403},
			{pair, "GET", "/api/v1/pods", "", 403},
			{pair, "GET", "/api/v1/secrets", "", 403},
			{pair, "GET", "/api/v1/services", "", 403},
			{pair, "GET", endpointSlices, "", 403},
			{pair, "POST", leases, lease, 403},
			{pair, "POST", "/api/v1/namespaces/default/events", event, 403},
			{pair, "POST", csrs, certificateRequest(t, name), 403},
			{pair, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`, 403},
		})
	}
	agentRefuses(t, k, server, name, other)
}

// agentRefuses asks all routes of an agent that members ask. That it leaves it
// may say again: then there is nothing to do.
func agentRefuses(t *testing.T, k *kept, server *machine, name, other string) {
	t.Helper()
	post := func(path, body string, want int) asks { return asks{"node-agent", "POST", path, body, want} }
	of := func(node string) string { return fmt.Sprintf(`{"node":%q}`, node) }
	all := []asks{{"node-agent", "GET", peer.PluginPath + "/sha256:" + strings.Repeat("0", 64), "", 403}}
	for _, p := range []string{peer.LookPath, peer.LogsPath, peer.ImagesPath, peer.NudgePath, peer.SignPath, peer.SavePath} {
		all = append(all, post(p, "{}", 403))
	}
	for _, p := range []string{peer.SecretsPath, peer.CommitPath, peer.StrategyPath + "/join/member"} { // of a join, and none is under way
		all = append(all, post(p, "{}", 409))
	}
	for _, p := range []string{peer.LeavePath, peer.DrainPath} {
		all = append(all, post(p, of(other), 403), post(p, of(name), 200))
	}
	k.answers(t, server, agentPort, append(all, post(peer.IdentityPath, "{}", 200)))
	if status, body := k.ask(server, agentPort, post(peer.IdentityPath, "{}", 200)); status != 200 || !strings.Contains(body, `"known":false`) {
		t.Errorf("a removed node asks whether it is one: %d %s", status, body)
	}
}

// certificateRequest is what a kubelet sends that wants a new certificate.
func certificateRequest(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(map[string]any{"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
		"metadata": map[string]any{"name": "removed"}, "spec": map[string]any{
			"request": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
			"usages": []string{"digital signature", "client auth"}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(request)
}
