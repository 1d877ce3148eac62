package operation

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/pluginhost"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// compile builds a program of this repository, as it is shipped.
func compile(t *testing.T, out, pkg string) {
	t.Helper()
	if b, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags=-s -w -X main.version=1.0.0", "-o", out, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, b)
	}
}

// openFolder is a folder that plugins' users can pass through, unlike those of
// t.TempDir.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mko")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// lines is a Progress that remembers details.
type lines struct {
	quiet
	mu  sync.Mutex
	all []string
}

func (l *lines) Detail(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, text)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.all, text)
}

// realNode is a node with the shipped plugins, as processes, and authorities.
func realNode(t *testing.T) (*Node, *lines) {
	t.Helper()
	base := openFolder(t)
	mk := filepath.Join(base, "bin", "mk")
	writeFile(t, mk, "#!/bin/false\n", 0o755)
	for _, p := range []string{"certs-local", "tokens-file", "clustering-etcd"} {
		_, name, _ := strings.Cut(p, "-")
		folder := filepath.Join(base, "plugins", p)
		compile(t, filepath.Join(folder, "bin", name), "mk8s.io/mk/plugins/"+p)
		m, err := exec.CommandContext(t.Context(), filepath.Join(folder, "bin", name), "--manifest").Output()
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(folder, "plugin.yaml"), string(m), 0o644)
	}
	seen := &lines{}
	o := child{Root: filepath.Join(base, "node"), Mk: mk, Command: "start"}.options(nil)
	o.Progress = seen
	n, err := CreateNode(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(n.Close(), os.RemoveAll(n.Root.RunDir())); err != nil {
			t.Error(err)
		}
	})
	r := &Run{Record: &Record{ID: "first"}}
	for _, err := range []error{
		n.Identify(t.Context(), StartOptions{Name: "n1", Address: "10.9.8.7"}), n.InstallShipped(t.Context()), n.Bootstrap(t.Context(), r),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return n, seen
}

// The plugin that invites has the one that keeps tokens make one; both are
// processes, and neither knows the other.
func TestInviteReachesTheTokensPlugin(t *testing.T) {
	t.Parallel()
	n, _ := realNode(t)
	p, who, err := n.Plugins.Clustering(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	grants, err := n.grantsOf(who)
	if err != nil {
		t.Fatal(err)
	}
	facts, err := n.Facts(t.Context(), grants)
	if err != nil {
		t.Fatal(err)
	}
	r := clustering.InviteRequest{Call: plugin.Call{OperationID: "7/invite"}, Node: facts, Role: plugin.RoleWorker,
		Lifetime: time.Hour, Uses: 1, Fingerprint: strings.Repeat("ab", 32)}
	got, err := p.Invite(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Token) < 32 || len(got.ConnectionStrings) == 0 || !strings.HasPrefix(got.ConnectionStrings[0], "10.9.8.7:25000/"+got.Token+"/") {
		t.Errorf("%+v", got)
	}
	again, err := p.Invite(t.Context(), r)
	if err != nil || again.Token != got.Token {
		t.Errorf("the same operation got another token: %v", err)
	}
	keeper, _, err := n.Plugins.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := keeper.List(t.Context(), false)
	if err != nil || len(kept) != 1 || kept[0].Role != plugin.RoleWorker || kept[0].Purpose != tokens.Join {
		t.Errorf("%+v %v", kept, err)
	}
}

// asker is a plugin that asks a node's host what the test wants.
type asker struct {
	t *testing.T
	p *pluginhost.Plugin
}

func startAsker(t *testing.T, n *Node, program, kind string, g plugin.Grants) asker {
	t.Helper()
	isolate := os.Geteuid() == 0
	h := pluginhost.New(pluginhost.Options{RunDir: n.Root.RunDir("q"), Answer: n.answers, Isolate: isolate})
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Start(t.Context(), pluginhost.Spec{
		Identity: plugin.Identity{Kind: kind, Name: "asker", Version: "1.0.0"}, Dir: filepath.Dir(program), Program: program,
		Digest: changeset.DigestOf(data), UID: 62999, Grants: g, Env: []string{"KIND=" + kind},
		Config: plugin.Configuration{Settings: []byte("{}")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return asker{t, p}
}

// wanted is what a test has a plugin ask; see testdata/asker.
type wanted struct {
	OperationID string
	Text        string
	Requests    []certs.CertificateRequest
}

// under has the plugin ask while it is asked under an operation.
func (a asker) under(operation, callback string, with wanted) (string, error) {
	a.t.Helper()
	state, err := json.Marshal(with)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := a.p.Exporter().PrepareImport(a.t.Context(), plugin.Call{OperationID: operation, Step: plugin.Step{Name: callback, State: state}})
	return string(out), err
}

func (a asker) must(callback string, with wanted, into any) {
	a.t.Helper()
	out, err := a.under(with.OperationID, callback, with)
	if err == nil && into != nil {
		err = json.Unmarshal([]byte(out), into)
	}
	if err != nil {
		a.t.Fatal(callback, err)
	}
}

func (a asker) refused(operation, callback string, with wanted, why string) {
	a.t.Helper()
	out, err := a.under(operation, callback, with)
	if err == nil || !strings.Contains(err.Error(), why) {
		a.t.Errorf("%s %+v: %v %s, want %q", callback, with, err, out, why)
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	n, seen := realNode(t)
	program := filepath.Join(openFolder(t), "asker")
	compile(t, program, "./testdata/asker")
	a := startAsker(t, n, program, plugin.KindClustering, plugin.Grants{
		FilesRead: []string{"certs/*", "args/etcd", "plugins/**", "credentials/*"}, Certificates: []string{"datastore"}})
	t.Run("tokens", a.tokens)
	t.Run("files", func(t *testing.T) { a.files(t, n) })
	t.Run("certificates", func(t *testing.T) { a.certificates(t, n) })
	t.Run("progress", func(t *testing.T) { a.progress(t, seen) })
	t.Run("another kind", func(t *testing.T) {
		b := startAsker(t, n, program, plugin.KindAddons, plugin.Grants{FilesRead: []string{"args/etcd"}})
		b.refused("1", "Issue", wanted{OperationID: "1"}, "addons/asker may not ask the host to Issue: only a clustering plugin invites nodes")
		b.refused("1", "Sign", wanted{OperationID: "1"}, "may not ask the host to Sign")
		b.must("Read", wanted{Text: "args/etcd"}, nil)
		b.must("Authorities", wanted{Text: certs.Kubernetes}, nil)
	})
	t.Run("peers", func(t *testing.T) {
		a.refused("1", "Peer", wanted{OperationID: "1"}, "this node has joined no other")
		a.refused("1", "Peer", wanted{OperationID: "2"}, `not asked under the operation "2"`)
	})
}

func (a asker) tokens(t *testing.T) {
	a.t = t
	var issued tokens.Issued
	var held tokens.Reservation
	a.must("Issue", wanted{OperationID: "i"}, &issued)
	a.must("Reserve", wanted{OperationID: "j", Text: issued.Token}, &held)
	if held.Role != plugin.RoleWorker {
		t.Errorf("%+v", held)
	}
	a.must("Release", wanted{OperationID: "j", Text: held.ID}, nil)
	a.must("Reserve", wanted{OperationID: "k", Text: issued.Token}, &held)
	a.must("Commit", wanted{OperationID: "k", Text: held.ID}, nil)
	a.refused("l", "Reserve", wanted{OperationID: "l", Text: issued.Token}, "used")
	for _, callback := range []string{"Issue", "Reserve", "Commit", "Release"} {
		a.refused("mine", callback, wanted{OperationID: "another's"}, `it is not asked under the operation "another's"`)
		a.refused("mine", callback, wanted{OperationID: "mine/too"}, "it is not asked under the operation")
		a.refused("", callback, wanted{}, "it names no operation")
	}
}

func (a asker) files(t *testing.T, n *Node) {
	a.t = t
	writeFile(t, n.Root.Path("args/etcd"), "--name=n1\n", 0o600)
	var f host.File
	a.must("Read", wanted{Text: "args/etcd"}, &f)
	if string(f.Content) != "--name=n1\n" || f.Digest != changeset.DigestOf(f.Content) {
		t.Errorf("%+v", f)
	}
	a.must("Read", wanted{Text: "certs/none.crt"}, &f)
	if !f.Absent || f.Digest != node.Absent {
		t.Errorf("%+v", f)
	}
	// Links are followed, but not by way of what a plugin writes itself.
	state := filepath.Join(n.Root.Plugins(), "state/tokens/file")
	writeFile(t, n.Root.Path("credentials/kept"), "kept\n", 0o600)
	for from, to := range map[string]string{
		n.Root.Path("credentials/near"): "kept", n.Root.Path("credentials/up"): "../credentials/near", n.Root.Path("credentials/far"): "../plugins/state/tokens/file/link",
		state + "/link": "../../../../credentials/kept", n.Root.Path("credentials/loop"): "loop", n.Root.Path("credentials/out"): "../../../etc/passwd",
		n.Root.Path("credentials/absolute"): "/etc/passwd",
	} {
		if err := os.MkdirAll(filepath.Dir(from), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"credentials/kept", "credentials/near", "credentials/up"} {
		if a.must("Read", wanted{Text: path}, &f); string(f.Content) != "kept\n" {
			t.Errorf("%s: %+v", path, f)
		}
	}
	if facts, err := n.Facts(t.Context(), plugin.Grants{FilesRead: []string{"credentials/far"}}); !errors.Is(err, plugin.NotPossible) {
		t.Errorf("a question carries %q: %v", facts.Files, err)
	}
	for path, why := range map[string]string{
		"credentials/far":           "leads to, what is the core's alone",
		"credentials/loop":          "leads to, what is the core's alone",
		"credentials/out":           "escapes",
		"credentials/absolute":      "out of the root folder",
		"args/kubelet":              "needs the grant filesRead",
		"args/etcd/../kubelet":      "no path below the root folder",
		"../etc/passwd":             "no path below the root folder",
		"/etc/passwd":               "no path below the root folder",
		"":                          "no path below the root folder",
		"plugins/plugins.lock.json": "is the core's alone", // though granted
		"plugins/state/certs/local": "is the core's alone",
	} {
		a.refused("1", "Read", wanted{Text: path}, why)
	}
}

func (a asker) certificates(t *testing.T, n *Node) {
	a.t = t
	var trusted []certs.Authority
	a.must("Authorities", wanted{}, &trusted)
	if len(trusted) != 3 || trusted[0].KeyLocation != "" {
		t.Errorf("%d authorities, a key at %q", len(trusted), trusted[0].KeyLocation)
	}
	a.refused("1", "Authorities", wanted{Text: "company"}, `there is no authority "company"`)
	p, err := pki.Find(pki.DatastoreMember)
	if err != nil {
		t.Fatal(err)
	}
	request := func(dns string, change func(*certs.CertificateRequest)) []certs.CertificateRequest {
		key, _, err := pki.NewKey(pki.ECDSAP256)
		if err != nil {
			t.Fatal(err)
		}
		names, err := NormalNames([]string{dns}, []string{"127.0.0.1", "10.9.8.7"})
		if err != nil {
			t.Fatal(err)
		}
		csr, err := pki.NewCSR(key, pki.Request{Profile: p, Node: "n1", Names: names})
		if err != nil {
			t.Fatal(err)
		}
		q := certs.CertificateRequest{ID: "mine", CSR: csr, Profile: pki.DatastoreMember}
		if change != nil {
			change(&q)
		}
		return []certs.CertificateRequest{q}
	}
	var signed []certs.SignResult
	good := wanted{OperationID: "s", Requests: request("n1", nil)}
	a.must("Sign", good, &signed)
	if len(signed) != 1 || signed[0].ID != "mine" || signed[0].Granted == nil {
		t.Fatalf("%+v", signed)
	}
	cert, err := pki.ParseCertificate(signed[0].Granted.Certificate)
	if err != nil || cert.Subject.CommonName != "mk:datastore" || fmt.Sprint(cert.DNSNames) != "[n1]" {
		t.Error(cert, err)
	}
	for why, with := range map[string][]certs.CertificateRequest{
		"are not in the node's record":  request("n2", nil),
		"needs the grant certificates":  request("n1", func(q *certs.CertificateRequest) { q.Profile = pki.Admin }),
		"are the authority datastore's": request("n1", func(q *certs.CertificateRequest) { q.Authority = certs.Kubernetes }),
		"only the newest generation":    request("n1", func(q *certs.CertificateRequest) { q.Generation = 1 }),
		"at most":                       request("n1", func(q *certs.CertificateRequest) { q.Life = 100 * 365 * 24 * time.Hour }),
	} {
		a.refused("s", "Sign", wanted{OperationID: "s", Requests: with}, why)
	}
	a.refused("t", "Sign", good, `it is not asked under the operation "s"`)
}

func (a asker) progress(t *testing.T, seen *lines) {
	a.t = t
	a.must("Progress", wanted{OperationID: "1", Text: "half\x1b[2J\nway"}, nil)
	if !seen.has("clustering/asker: half [2J way") {
		t.Errorf("%q", seen.all)
	}
	a.must("Progress", wanted{OperationID: "1", Text: strings.Repeat("ä", 999)}, nil)
	if !seen.has("clustering/asker: " + strings.Repeat("ä", maxProgress) + "…") {
		t.Error("a long line is shown as it is")
	}
	// Who was answered has nothing to ask any more, under whatever else it is
	// asked meanwhile.
	if _, err := a.under("early", "begin", wanted{OperationID: "early"}); err != nil {
		t.Fatal(err)
	}
	why, err := a.under("later", "late", wanted{})
	if err != nil || !strings.Contains(why, "may not ask the host to Progress") {
		t.Errorf("%s %v", why, err)
	}
}

// Every kind has exactly the callbacks of the table; what they need beside is
// another test's.
func TestWhoMayAskWhat(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{
		plugin.KindCerts: "Read Progress", plugin.KindTokens: "Read Progress", plugin.KindAddons: "Authorities Read Progress",
		plugin.KindClustering: "Issue Reserve Commit Release Sign Authorities Peer Read Progress",
	}
	for _, kind := range append(plugin.Kinds(), "unknown") {
		c := callbacks{spec: pluginhost.Spec{Identity: plugin.Identity{Kind: kind, Name: "x"}}, asked: &pluginhost.Questions{}}
		for _, r := range append(callbackRules(), callbackRule{name: "Reboot"}) {
			err := c.allow(r.name)
			idle := strings.Contains(fmt.Sprint(err), "it is asked nothing at the moment")
			if !errors.Is(err, plugin.NotPossible) || idle != slices.Contains(strings.Fields(allowed[kind]), r.name) {
				t.Errorf("%s, %s: %v", kind, r.name, err)
			}
		}
	}
	for _, r := range callbackRules() {
		if len(r.kinds) < len(plugin.Kinds()) && r.why == "" {
			t.Errorf("%s: no reason for those that it is refused to", r.name)
		}
	}
}
