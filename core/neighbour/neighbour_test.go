package neighbour

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestPortHolders(t *testing.T) {
	t.Parallel()
	l := listen(t)
	port := l.Addr().(*net.TCPAddr).Port
	if h := PortHolders(port)[port]; h.PID != os.Getpid() || h.Program == "" {
		t.Errorf("port %d is held by %v", port, h)
	}
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	for pid, exe := range map[string]string{"11": "/snap/microk8s/9/kubelite", "12": "/usr/bin/k3s", "13": "/opt/mk/bin/kubelite", "14": "/usr/bin/bash", "15": "/usr/bin/kubelet"} {
		put(t, filepath.Join(base, "proc", pid, "cmdline"), exe+"\x00--x")
		if err := os.Symlink(exe, filepath.Join(base, "proc", pid, "exe")); err != nil {
			t.Fatal(err)
		}
	}
	// In a network namespace of its own: a node in a container.
	if err := errors.Join(os.MkdirAll(filepath.Join(base, "proc/15/ns"), 0o755), os.Symlink("net:[15]", filepath.Join(base, "proc/15/ns/net"))); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(base, "proc/net/tcp"), "  0: 0100007F:403B 00000000:0000 0A 0:0 0:0 0 0 0 77 1\n  1: short\n")
	if err := os.MkdirAll(filepath.Join(base, "proc/11/fd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("socket:[77]", filepath.Join(base, "proc/11/fd/3")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(base, "etc/kubernetes/manifests/a.yaml"), "")
	var got []string
	for _, f := range kubernetes(base, []string{"/opt/mk"}) {
		got = append(got, f.Name+" "+f.Process)
		if f.PID == 11 && (len(f.Ports) != 1 || f.Ports[0] != 16443) {
			t.Errorf("ports %v", f.Ports)
		}
	}
	if want := "k3s /usr/bin/k3s|kubeadm, or another that runs a kubelet /etc/kubernetes/manifests|the snap microk8s /snap/microk8s/9/kubelite"; strings.Join(got, "|") != want {
		t.Errorf("got %v", got)
	}
}

func FuzzListening(f *testing.F) {
	f.Add("  0: 0100007F:403B 00000000:0000 0A 0:0 0:0 0 0 0 77 1")
	f.Fuzz(func(t *testing.T, line string) {
		if port, _, ok := listening(line); ok && (port < 0 || port > 65535) {
			t.Errorf("port %d", port)
		}
	})
}
