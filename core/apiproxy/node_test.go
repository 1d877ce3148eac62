package apiproxy

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"mk8s.io/mk/core/kubeconfig"
	"mk8s.io/mk/core/node"
)

type object = map[string]any

// apiServers is a cluster: what any of its API servers answers.
type apiServers struct {
	mu      sync.Mutex
	list    []netip.AddrPort
	changed chan struct{}
}

func (a *apiServers) become(list ...netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = list
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *apiServers) slice() (object, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var endpoints []object
	for _, s := range a.list {
		endpoints = append(endpoints, object{"addresses": []string{s.Addr().String()}, "conditions": object{"ready": true}})
	}
	return object{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata":  object{"name": "kubernetes", "namespace": "default", "resourceVersion": "1"},
		"endpoints": endpoints, "ports": []object{{"name": "https", "port": a.list[0].Port(), "protocol": "TCP"}},
	}, a.changed
}

func (a *apiServers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" {
		_, _ = io.WriteString(w, "ok")
		return
	}
	if r.URL.Path != "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices" || r.URL.Query().Get("labelSelector") != "kubernetes.io/service-name=kubernetes" {
		http.Error(w, "what is that? "+r.URL.String(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	slice, changed := a.slice()
	if r.URL.Query().Get("watch") == "" {
		_ = json.NewEncoder(w).Encode(object{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
			"metadata": object{"resourceVersion": "1"}, "items": []object{slice}})
		return
	}
	w.WriteHeader(http.StatusOK)
	for {
		_ = json.NewEncoder(w).Encode(object{"type": "MODIFIED", "object": slice})
		w.(http.Flusher).Flush()
		select {
		case <-changed:
			slice, changed = a.slice()
		case <-r.Context().Done():
			return
		}
	}
}

// serveOn is an API server on its own loopback address, all with one port, as
// in a cluster.
func serveOn(t *testing.T, a *apiServers, addr string) *httptest.Server {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(a)
	_ = s.Listener.Close()
	s.Listener = l
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// worker is the root folder of a worker that knows these API servers.
func worker(t *testing.T, s *httptest.Server, list string) *node.Root {
	t.Helper()
	root, err := node.Create(t.TempDir()+"/mk", node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	config, err := kubeconfig.New(kubeconfig.Options{
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), User: "system:kube-proxy", Token: "of-a-test",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := root.MkdirAll("var/lib", root.Passage()); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"credentials/" + DefaultKubeconfig: string(config), "args/" + Service: "--listen=127.0.0.1:0\n", ListFile: list,
	} {
		if err := root.WriteFile(name, []byte(data), root.Secret()); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// TestServeFollowsThroughItself: the list on disk has one server that is gone
// and one that works; through that one the proxy learns of the others, once it
// has its credentials.
func TestServeFollowsThroughItself(t *testing.T) {
	t.Parallel()
	cluster := &apiServers{changed: make(chan struct{})}
	first := serveOn(t, cluster, "127.0.0.1:0")
	one := netip.MustParseAddrPort(first.Listener.Addr().String())
	gone := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), one.Port())
	cluster.become(one)
	root := worker(t, first, string(FormatList([]netip.AddrPort{one, gone})))
	later, there := root.Credentials(DefaultKubeconfig+".later"), root.Credentials(DefaultKubeconfig)
	if err := os.Rename(there, later); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // another one reads it
	go func() { ended <- Serve(ctx, root, "test", hclog.New(&hclog.LoggerOptions{Output: log})) }()
	waitFor(t, "it says that it has none", func() bool {
		text, err := os.ReadFile(log.Name())
		return err == nil && strings.Contains(string(text), "the API servers cannot be followed yet")
	})
	if err := os.Rename(later, there); err != nil {
		t.Fatal(err)
	}
	kept := func(want ...netip.AddrPort) func() bool {
		return func() bool {
			data, err := os.ReadFile(root.Path(ListFile))
			if err != nil {
				t.Fatal(err)
			}
			list, err := ParseList(data)
			if err != nil {
				t.Fatal(err)
			}
			return slices.Equal(list, want)
		}
	}
	waitFor(t, "the server that is gone leaves the list on disk", kept(one))
	two := netip.MustParseAddrPort(serveOn(t, cluster, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), one.Port()).String()).Listener.Addr().String())
	cluster.become(one, two)
	waitFor(t, "a server that came is in the list on disk", kept(one, two))
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("Serve = %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Serve does not end with its context")
	}
}

func TestServeSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	t.Cleanup(s.Close)
	for name, c := range map[string]struct{ file, text, want string }{
		"an empty list":       {ListFile, "# none\n", "no control-plane node is known"},
		"a list with a fault": {ListFile, "10.0.0.1:16443\nnode-a\n", `line 2: "node-a" is not ADDRESS:PORT`},
		"open to everyone":    {"args/" + Service, "--listen=0.0.0.0:16443\n", "not ADDRESS:PORT of this machine alone"},
		"a name to listen on": {"args/" + Service, "--listen=localhost:16443\n", "not ADDRESS:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := worker(t, s, "10.0.0.1:16443\n")
			if err := root.WriteFile(c.file, []byte(c.text), root.Secret()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := Serve(ctx, root, "test", hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Serve = %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzParseList(f *testing.F) {
	for _, s := range []string{"10.0.0.1:16443\n[fd00::1]:16443\n", "# x\n\n 10.0.0.1:1 ", "::1", "[::ffff:10.0.0.1]:1\n10.0.0.1:1", "10.0.0.1:0", "[fe80::1%eth0]:1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseList(data)
		if err != nil {
			return
		}
		again, err := ParseList(FormatList(list))
		if err != nil || !slices.Equal(list, again) {
			t.Fatalf("%v is written and read as %v, %v", list, again, err)
		}
	})
}
