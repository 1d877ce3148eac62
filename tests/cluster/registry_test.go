//go:build cluster

package cluster

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long one question to a node may take.
const patience = time.Minute

// pulls has the node pull the same image twice: as any other, from the registry
// that its name says, and from a mirror of a registry that there is not.
func pulls(t *testing.T, m *machine) {
	t.Helper()
	var asked atomic.Int64
	serveImage(t, m, "127.0.0.1:5000", filepath.Join(m.Out, "testimages/tools.tar"), &asked)
	m.apply(puller("ordinary", "localhost:5000/tools:1.0.0"))
	m.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/ordinary", "--timeout=60s")
	if asked.Load() == 0 {
		t.Error("nobody asked the registry")
	}
	hosts := filepath.Join(m.Root, "args/certs.d/mk.test/hosts.toml")
	err := errors.Join(os.MkdirAll(filepath.Dir(hosts), 0o755), //nolint:gosec // as people make it
		os.WriteFile(hosts, []byte("server = \"https://mk.test\"\n[host.\"http://127.0.0.1:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"), 0o644)) //nolint:gosec // as people make it
	if err != nil {
		t.Fatal(err)
	}
	before := asked.Load()
	m.apply(puller("mirrored", "mk.test/tools:1.0.0"))
	m.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/mirrored", "--timeout=60s")
	if asked.Load() == before {
		t.Error("nobody asked the mirror")
	}
	m.kubectl("delete", "pod", "ordinary", "mirrored", "--now")
}

func puller(name, image string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n  restartPolicy: Never\n  containers:\n" +
		"    - {name: c, image: \"" + image + "\", imagePullPolicy: Always, args: [hostname]}\n"
}

// serveImage serves an archive of an image on the machine, as a registry does.
func serveImage(t *testing.T, m *machine, address, archive string, asked *atomic.Int64) {
	t.Helper()
	files := map[string][]byte{}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			files[h.Name], err = io.ReadAll(tr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var index struct {
		Manifests []struct{ MediaType, Digest string }
	}
	if err := json.Unmarshal(files["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%v\n%s", err, files["index.json"])
	}
	manifest := index.Manifests[0]
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/v2/tools/{kind}/{name}", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		digest := r.PathValue("name")
		if r.PathValue("kind") == "manifests" {
			if digest == "1.0.0" {
				digest = manifest.Digest
			}
			w.Header().Set("Content-Type", manifest.MediaType)
			w.Header().Set("Docker-Content-Digest", digest)
		}
		data, ok := files[path.Join("blobs", strings.Replace(digest, ":", "/", 1))]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(data)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	l := m.listen(address)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// listen listens on the machine.
func (m *machine) listen(address string) net.Listener {
	m.t.Helper()
	var l net.Listener
	err := m.Inside(func() (err error) {
		l, err = new(net.ListenConfig).Listen(m.t.Context(), "tcp", address)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}
