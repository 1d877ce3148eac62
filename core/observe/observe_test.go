package observe

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service"
)

// hung listens and never answers; the kernel accepts in its place.
func hung(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// newNode is a node that was started once, whose API server is at server.
func newNode(t *testing.T, server string) *operation.Node {
	t.Helper()
	base := t.TempDir()
	exe := filepath.Join(base, "dist/bin/mk")
	put(t, exe, "")
	n, err := operation.CreateNode(operation.Options{
		Root: filepath.Join(base, "root"), Executable: exe, Version: "test", Verb: "status", User: "root",
		Env: func(string) string { return "" }, Now: time.Now, Settings: map[string]string{"supervisor": "embedded"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	n.Record = node.NewRecord("one", time.Now())
	n.Record.Address, n.Record.ClusterID = "192.0.2.1", node.NewID()
	n.Issuer.Record = n.Record
	put(t, n.Root.Credentials("client.config"), `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://`+server+`", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: verysecret}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`)
	return n
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStatusAnswersWhateverHangs(t *testing.T) {
	t.Parallel()
	n := newNode(t, hung(t, "tcp", "127.0.0.1:0").Addr().String())
	socket := n.Defaults().ContainerdSocket()
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	if len(socket) < 100 {
		hung(t, "unix", socket)
	}
	// A key that is a pipe nobody writes to: a read like from a dead disk.
	pipe := n.Root.Certs("apiserver-etcd-client.crt")
	if err := os.MkdirAll(filepath.Dir(pipe), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s := NodeStatus(t.Context(), n)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("status took %s", took)
	}
	for _, source := range []string{"API server", "datastore", "containerd"} {
		if s.Silent[source] == "" {
			t.Errorf("nothing is said of %s: %v", source, s.Silences())
		}
	}
	if !strings.Contains(s.Silent["datastore"], "no answer in 2.5s") || !strings.Contains(s.Silent["certificates"], "pipe") || s.Ready || s.Node != "one" {
		t.Errorf("status %+v", s)
	}
}

func TestSlowSourcesDoNotAddUp(t *testing.T) {
	t.Parallel()
	const limit = 200 * time.Millisecond
	never := make(chan struct{})
	defer close(never)
	began := time.Now()
	out := together(t.Context(), limit, map[string]func(context.Context) (int, error){
		"quick":  func(context.Context) (int, error) { return 1, nil },
		"polite": func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() },
		"hung":   func(context.Context) (int, error) { <-never; return 0, nil },
		"broken": func(context.Context) (int, error) { return 0, io.ErrUnexpectedEOF },
	})
	if took := time.Since(began); took > limit+time.Second {
		t.Errorf("took %s", took)
	}
	if out["quick"].value != 1 || out["quick"].err != nil || !errors.Is(out["broken"].err, io.ErrUnexpectedEOF) {
		t.Errorf("outcomes %v", out)
	}
	for _, name := range []string{"polite", "hung"} {
		if err := out[name].err; err == nil || err.Error() != "no answer in 200ms" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStoppedProcessIsSilent(t *testing.T) {
	t.Parallel()
	socket := filepath.Join("/tmp", "mk-observe-"+node.NewID()[:8]+".sock")
	t.Cleanup(func() { _ = os.Remove(socket) })
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	// The child holds the listening socket, and is stopped.
	child := exec.Command("cat")
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	child.ExtraFiles = []*os.File{file}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	if err := errors.Join(child.Process.Signal(syscall.SIGSTOP), file.Close()); err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := containerd(ctx, socket); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stopped server: %v", err)
	}
}

func TestInspectKeepsSecretsAndNamesWhatHangs(t *testing.T) {
	t.Parallel()
	n := newNode(t, hung(t, "tcp", "127.0.0.1:0").Addr().String())
	put(t, n.Root.Args("kube-apiserver"), "--secure-port=16443\n--proxy=http://me:verysecret@proxy:3128\n--oidc-password=verysecret\n")
	put(t, n.Root.Path("certs/server.key"), "verysecret")
	put(t, n.Root.Logs("kubelite"), strings.Repeat("a line\n", logLines+5)+"the end\n")
	var b bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := Inspect(ctx, n, &b, true); err != nil {
		t.Fatal(err)
	}
	files := unpack(t, &b)
	for name, text := range files {
		if strings.Contains(text, "verysecret") {
			t.Errorf("%s holds a secret", name)
		}
	}
	log := files["logs/kubelite.log"]
	if got := strings.Count(log, "\n"); got != logLines || !strings.HasSuffix(log, "the end\n") {
		t.Errorf("the log has %d lines", got)
	}
	if !strings.Contains(files["problems.txt"], "cluster.json") || !strings.Contains(files["args/kube-apiserver"], "16443") || files["machine.txt"] == "" {
		t.Errorf("problems %q, args %q", files["problems.txt"], files["args/kube-apiserver"])
	}
}

func unpack(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(h.Name, "mk-report/")] = string(data)
	}
}

func TestHopeless(t *testing.T) {
	t.Parallel()
	crash := func(restarts int, line string) []service.Status {
		return []service.Status{{Name: "kubelite", State: service.Backoff, Restarts: restarts, LastError: line}}
	}
	for name, c := range map[string]struct {
		seen []*Status
		want string
	}{
		// Seen a minute apart: see below.
		"twice in a minute": {[]*Status{{Services: crash(0, "")}, {Services: crash(1, "x")}, {Services: crash(3, "x")}}, "not ready: kubelite restarts again and again (3 times)"},
		"once in a minute":  {[]*Status{{Services: crash(0, "")}, {Services: crash(1, "x")}, {Services: crash(2, "x")}}, ""},
		"only before":       {[]*Status{{Services: crash(4, "x")}, {Services: crash(4, "x")}, {Services: crash(4, "x")}}, ""},
		"stopped":           {[]*Status{{Stopped: true}}, "not ready: the node is stopped"},
		"nothing":           {[]*Status{{}}, "not ready: no service runs"},
		"supervisor silent": {[]*Status{{Silent: map[string]string{"services": "no answer"}}}, ""},
		"few":               {[]*Status{{Services: crash(4, "x")}}, ""},
		"many":              {[]*Status{{Services: crash(5, "x")}}, "not ready: kubelite restarts again and again (5 times)"},
		"another time":      {[]*Status{{Services: crash(4, "E1126 01:04:05 1 x")}, {Services: crash(5, "E1126 01:04:09 2 x")}}, "not ready: kubelite restarts again and again (5 times)"},
		"another error":     {[]*Status{{Services: crash(4, "x")}, {Services: crash(6, "y")}}, ""},
		"expired": {[]*Status{{Services: crash(0, ""), Certificates: []ExpiringCert{{"server", []pki.Reason{{Code: pki.HasExpired, Text: "it has expired"}}}}}},
			"not ready: server.crt: it has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loops, got := map[string]loop{}, ""
			for i, s := range c.seen {
				if err := hopeless(s, loops, time.Unix(1e9+60*int64(i), 0)); err != nil {
					got = err.Error()
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestALateWaitNamesServiceErrorAndNext(t *testing.T) {
	t.Parallel()
	n := newNode(t, hung(t, "tcp", "127.0.0.1:0").Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := WaitReady(ctx, n, func(string) {})
	e, ok := errors.AsType[*HopelessError](err)
	if !ok || e.Next == "" || e.Why == "" {
		t.Fatalf("got %#v", err)
	}
	e = late(&Status{Services: []service.Status{{Name: "kubelite", State: service.Backoff, Restarts: 6, LastError: "no such file"}}}, 2*time.Minute, "")
	if e.Error() != "not ready after 2m0s: kubelite restarts again and again (6 times)" || e.Detail != "no such file" || e.Next != "mk logs kubelite --since 5m" {
		t.Errorf("got %#v", e)
	}
}
