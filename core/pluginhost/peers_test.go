package pluginhost

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"google.golang.org/grpc"

	"mk8s.io/mk/sdk/host"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

// fakeHost answers Read with who asked; it panics and waits on demand.
type fakeHost struct {
	host.Host
	spec Spec
}

func (f fakeHost) Read(ctx context.Context, path string) (host.File, error) {
	switch path {
	case "panic":
		panic("boom in the host")
	case "deadline":
		d, ok := ctx.Deadline()
		if !ok || time.Until(d) > 11*time.Second {
			return host.File{}, errors.New("no deadline")
		}
	}
	return host.File{Content: []byte(f.spec.Identity.String() + " " + path)}, nil
}

func withAnswers(o *Options) {
	o.Answer = func(s Spec, _ *Questions) host.Host { return fakeHost{spec: s} }
}

func TestThePluginAsksTheHost(t *testing.T) {
	t.Parallel()
	r := newRig(t, withAnswers)
	p := r.start(r.spec())
	for path, want := range map[string]string{"x": "addons/test x", "deadline": "addons/test deadline"} {
		if got := must(t, p, "ask "+path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	if _, err := do(t, p, "ask panic"); err == nil || !strings.Contains(err.Error(), "the host failed to answer") {
		t.Error(err)
	}
	must(t, p, "ask again")
	// Nor does it depend on the plugin whether a question is bounded.
	if got := must(t, p, "ask-bare deadline"); got != "addons/test deadline" {
		t.Error(got)
	}
	if _, err := do(t, p, "ask-much"); err == nil || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("a question of 2 MiB: %v", err)
	}
}

func TestQuestionsOfPluginsAreBounded(t *testing.T) {
	t.Parallel()
	_, err := bounded(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/mk.host.v1.HostService/Read"}, func(ctx context.Context, _ any) (any, error) {
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > 10*time.Second {
			return nil, status.Error(codes.Internal, "no deadline")
		}
		return nil, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Neither another local user nor another plugin gets an answer at a socket of
// a plugin: not through the folder, and not if the folder stood open either.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, withAnswers)
	p := r.start(r.spec())
	sockets, _ := filepath.Glob(p.runner.sockets + "/plugin*")
	if len(sockets) != 1 {
		t.Fatal(sockets)
	}
	ask := func(uid uint32, socket, what string) string {
		out, err := as(t, uid, "dial", "SOCKET="+socket, "ASK="+what).CombinedOutput()
		if err != nil {
			t.Error(err)
		}
		return string(out)
	}
	for socket, what := range map[string]string{sockets[0]: "plugin", p.dir + "/host": "host"} {
		if got := ask(strangerUser, socket, what); !strings.HasPrefix(got, "no way in: true") {
			t.Errorf("%s: the folder lets a stranger in: %s", what, got)
		}
		if got := ask(pluginUser, socket, what); !strings.HasPrefix(got, "answered: <nil>") {
			t.Errorf("%s: its own user: %s", what, got)
		}
	}
	for _, open := range []string{p.dir, p.runner.sockets, sockets[0], p.dir + "/host"} {
		if err := os.Chmod(open, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for socket, what := range map[string]string{sockets[0]: "plugin", p.dir + "/host": "host"} {
		if got := ask(strangerUser, socket, what); !strings.HasPrefix(got, "cut off: ") {
			t.Errorf("%s: a stranger is answered: %s", what, got)
		}
	}
}

// The host speaks only to the plugin's own user, whatever socket it was led to.
func TestTheHostSpeaksToItsPluginOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	check := r.credentials(&Plugin{Spec: Spec{UID: pluginUser}})
	for uid, allowed := range map[uint32]bool{pluginUser: true, strangerUser: false, 0: false} {
		dir := folder(t)
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		socket := dir + "/s"
		cmd := as(t, uid, "listen", "SOCKET="+socket)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Fatal(line, err)
		}
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := check.ClientHandshake(t.Context(), "", conn); (err == nil) != allowed {
			t.Errorf("user %d: %v", uid, err)
		}
		_ = conn.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// What root does in the run folder by path cannot be turned elsewhere by
// another process of the plugin's user.
func TestTheRunFolderIsRoots(t *testing.T) {
	t.Parallel()
	r := newRig(t, withAnswers)
	a := r.start(r.spec())
	b := r.start(r.spec())
	for _, deed := range []string{"write " + a.dir + "/x", "write " + b.dir + "/x", "open " + b.dir} {
		out, err := do(t, a, deed)
		if err != nil {
			out = err.Error()
		}
		if !strings.Contains(out, "permission denied") {
			t.Errorf("%s: %s", deed, out)
		}
	}
	info, err := os.Lstat(b.dir)
	if err != nil || info.Mode().Perm() != 0o710 {
		t.Error(info.Mode(), err)
	}
}

// Nobody has agreed to the grants of a plugin that is only tried.
func TestATrialHasNoCallbacks(t *testing.T) {
	t.Parallel()
	r := newRig(t, withAnswers)
	s := r.spec()
	s.Trial = true
	if out, err := do(t, r.start(s), "ask x"); err == nil || !strings.Contains(err.Error(), "no host") {
		t.Error(out, err)
	}
}

func TestQuestionsAreCounted(t *testing.T) {
	t.Parallel()
	var q Questions
	ask := func(id string, meanwhile func()) {
		req := &pluginv1.ForgetRequest{Call: &pluginv1.Call{OperationId: id}}
		_ = q.note(t.Context(), "/mk.plugin.v1.PluginService/Forget", req, nil, nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				meanwhile()
				return nil
			})
	}
	ask("a", func() {
		ask("b", func() {
			if !q.Any() || !q.Under("a") || !q.Under("b") || q.Under("c") || q.Under("") {
				t.Error("two questions are not counted")
			}
		})
		ask("a", func() {})
		if !q.Under("a") || q.Under("b") {
			t.Error("the first question is not counted any more")
		}
	})
	if q.Any() || q.Under("a") {
		t.Error("answered questions are counted")
	}
}
