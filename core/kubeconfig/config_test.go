package kubeconfig

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const golden = `apiVersion: v1
clusters:
  - cluster:
      certificate-authority-data: Y2E=
      server: https://127.0.0.1:16443
    name: microk8s-cluster
contexts:
  - context:
      cluster: microk8s-cluster
      user: admin
    name: microk8s
current-context: microk8s
kind: Config
preferences: {}
users:
  - name: admin
    user:
      client-certificate-data: Y2VydA==
      client-key-data: a2V5
`

func admin() Options {
	return Options{CA: []byte("ca"), User: "admin", Cert: []byte("cert"), Key: []byte("key")}
}

func mustNew(t testing.TB, o Options) []byte {
	t.Helper()
	data, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustParse(t testing.TB, data []byte) *Config {
	t.Helper()
	c, err := Parse("test.config", data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewHasMicroK8sShape(t *testing.T) {
	t.Parallel()
	data := mustNew(t, admin())
	if string(data) != golden {
		t.Errorf("got\n%s", data)
	}
	c := mustParse(t, data)
	back, err := c.Marshal()
	if err != nil || string(back) != golden {
		t.Errorf("read and written again: %v\n%s", err, back)
	}
	cl, u, err := c.Current()
	if err != nil || string(cl.CA) != "ca" || string(u.Key) != "key" {
		t.Errorf("%+v %+v %v", cl, u, err)
	}
	token := mustNew(t, Options{CA: []byte("ca"), User: "kubeproxy", Token: "123456789", Server: ServerURL("fd00::1", 16443)})
	c = mustParse(t, token)
	if c.Users[0].Token != "123456789" || c.Clusters[0].Server != "https://[fd00::1]:16443" {
		t.Errorf("%s", token)
	}
	byPath := mustNew(t, Options{CA: []byte("ca"), User: "kubelet", CertFile: "/c.crt", KeyFile: "/c.key"})
	if c = mustParse(t, byPath); c.Users[0].CertFile != "/c.crt" {
		t.Errorf("%s", byPath)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Options){
		"no certificate authority": func(o *Options) { o.CA = nil },
		"belong together":          func(o *Options) { o.Key = nil },
		"not both":                 func(o *Options) { o.Token = "s3cret" },
		"no certificate and no":    func(o *Options) { o.Cert, o.Key = nil, nil },
		"in place or by path":      func(o *Options) { o.CertFile = "/x" },
		"no spaces":                func(o *Options) { o.Cert, o.Key, o.Token = nil, nil, "s3cret\nx" },
		"a name is needed":         func(o *Options) { o.User = "" },
		"https://HOST:PORT":        func(o *Options) { o.Server = "http://u:s3cret@x" },
	} {
		o := admin()
		change(&o)
		_, err := New(o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestParseRefusesWithFileAndLine(t *testing.T) {
	t.Parallel()
	edit := func(from, to string) string { return strings.Replace(golden, from, to, 1) }
	for text, want := range map[string]string{
		"":                      "f: it is empty",
		"# nothing\n":           "f: it is empty",
		"- a\n":                 "f:1: a kubeconfig is a mapping",
		"a: b\n c: [\n":         "f:",
		golden + "---\nx: y\n":  "more than one YAML document",
		edit("kind:", "kinds:"): `f:13: "kinds" is not a key`,
		edit("    user:\n      client-c", "    exec: {}\n    user:\n      client-c"): `f:17: "exec" is not a key of an entry of users`,
		edit("client-key-data: a2V5", "client-key-data: s3cret!"):                    "f:19: client-key-data is not base64",
		edit("client-key-data: a2V5", "client-key-data: ''"):                         "f:19: client-key-data is not base64",
		edit("client-key-data: a2V5", "password: s3cret"):                            `f:19: "password" is not a key of a user`,
		edit("    name: microk8s-cluster", "    name: 7"):                            "f:6: name is not text",
		edit("    name: microk8s-cluster", "    name: other"):                        `there is no cluster "microk8s-cluster"`,
		edit("current-context: microk8s", "current-context: x"):                      `there is no context "x"`,
		edit("kind: Config", "kind: Config\nkind: Config"):                           "f:14: kind is set twice",
		edit("preferences: {}", "preferences: {colors: true}"):                       `f:14: "colors"`,
		edit("server: https", "insecure-skip-tls-verify: true\n      server: https"): `f:5: "insecure-skip-tls-verify"`,
		edit("users:", "users: nobody\nx:"):                                          "f:15: users is not a list",
		"# " + strings.Repeat("x", MaxSize):                                          "more than the 1048576",
	} {
		_, err := Parse("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.30q…: want %q in: %v", text, want, err)
		}
	}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	c := mustParse(t, []byte(golden))
	for _, x := range []struct{ server, addr, want string }{
		{"https://127.0.0.1:16443", "10.0.0.5", "https://10.0.0.5:16443"},
		{"https://127.0.0.1:16443", "fd00::5", "https://[fd00::5]:16443"},
		{"https://[::1]:6443", "::ffff:10.0.0.5", "https://10.0.0.5:6443"},
		{"https://localhost", "fd00::5", "https://[fd00::5]"},
		{"https://localhost/p", "10.0.0.5", "https://10.0.0.5/p"},
		{"https://api.example.com:16443", "10.0.0.5", "https://api.example.com:16443"},
		{"https://10.1.1.1:16443", "10.0.0.5", "https://10.1.1.1:16443"},
	} {
		c.Clusters[0].Server = x.server
		out := Rewrite(c, netip.MustParseAddr(x.addr))
		if got := out.Clusters[0].Server; got != x.want || c.Clusters[0].Server != x.server {
			t.Errorf("%s to %s: %s", x.server, x.addr, got)
		}
	}
	if out := Rewrite(c, netip.Addr{}); !reflect.DeepEqual(out, c) {
		t.Error("no address, no change")
	}
}

func TestFilesByUser(t *testing.T) {
	t.Parallel()
	for user, want := range map[string]string{"admin": "client.config", "client": "client.config", "kubeproxy": "proxy.config",
		"system:kube-proxy": "proxy.config", "kubelet": "kubelet.config", "system:node:a": "kubelet.config",
		"controller": "controller.config", "scheduler.config": "scheduler.config"} {
		if f, err := ForUser(user); err != nil || f.Name != want {
			t.Errorf("%s: %s %v", user, f.Name, err)
		}
	}
	if _, err := ForUser("root"); err == nil || !strings.Contains(err.Error(), "kubeproxy") {
		t.Error(err)
	}
	if got := Files()[3].LoginFor("a"); got != "system:node:a" {
		t.Error(got)
	}
}

const foreign = `# my clusters
apiVersion: v1
kind: Config
preferences: {colors: true}
current-context: work
clusters:
# the company's
- name: work
  cluster: {server: "https://work:6443", insecure-skip-tls-verify: true, extensions: [{name: x}]}
contexts:
- {name: work, context: {cluster: work, user: admin}}
users:
- name: admin # by SSO
  user:
    exec: {command: sso, apiVersion: client.authentication.k8s.io/v1}
`

func TestMergeKeepsWhatIsForeign(t *testing.T) {
	t.Parallel()
	ours, err := Unique(mustParse(t, []byte(golden)), "mk-a")
	if err != nil {
		t.Fatal(err)
	}
	out, changes, err := Merge("f", []byte(foreign), ours)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"cluster mk-a added", "user mk-a-admin added", "context mk-a added", "current-context is mk-a"}; !slices.Equal(changes, want) {
		t.Errorf("%q", changes)
	}
	for _, keep := range []string{"# my clusters", "# the company's", "# by SSO", "colors: true", "command: sso", "insecure-skip-tls-verify: true", "https://work:6443", "name: mk-a-admin"} {
		if !strings.Contains(string(out), keep) {
			t.Errorf("%q is gone:\n%s", keep, out)
		}
	}
	again, changes, err := Merge("f", out, ours)
	if err != nil || len(changes) != 0 || string(again) != string(out) {
		t.Errorf("a second merge changed %q %v", changes, err)
	}
	ours.Clusters[0].Server = "https://10.0.0.9:16443"
	out, changes, err = Merge("f", out, ours)
	if err != nil || !slices.Equal(changes, []string{"cluster mk-a replaced"}) || !strings.Contains(string(out), "10.0.0.9") {
		t.Errorf("%q %v", changes, err)
	}
	fresh, changes, err := Merge("f", nil, mustParse(t, []byte(golden)))
	if err != nil || string(fresh) != golden || len(changes) != 1 {
		t.Errorf("%q %v\n%s", changes, err, fresh)
	}
	empty, _, err := Merge("f", []byte("clusters: null\nusers: []\n"), ours)
	if err != nil || !strings.Contains(string(empty), "name: mk-a-admin") {
		t.Errorf("%v\n%s", err, empty)
	}
}

func TestMergeRefuses(t *testing.T) {
	t.Parallel()
	ours := mustParse(t, []byte(golden))
	for text, want := range map[string]string{
		"users: x\n":                                    "f:1: users is not a list",
		"users: []\nusers: []\n":                        "f:2: users is set twice",
		"users:\n- name: admin\n- name: admin\n":        `f:3: there is a second user "admin"`,
		"current-context: [a]\n":                        "f:1: current-context is not text",
		"users:\n- &a\n  name: admin\n- *a\n":           "second user",
		"users:\n- name: admin\n  user: &u {}\nx: *u\n": "YAML anchors",
		"\tx\n": "f:1: this is not YAML",
		"[]":    "f:1: a kubeconfig is a mapping",
	} {
		if out, _, err := Merge("f", []byte(text), ours); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q in: %v\n%s", text, want, err, out)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(foreign))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			return
		}
		out, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("g", out)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(foreign))
	f.Add([]byte("users:\n- &a {name: admin}\n- *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ours := mustParse(t, []byte(golden))
		out, changes, err := Merge("f", data, ours)
		if err != nil || len(changes) == 0 {
			return
		}
		if _, again, err := Merge("g", out, ours); err != nil || len(again) > 0 {
			t.Fatalf("a second merge: %q %v\n%s", again, err, out)
		}
	})
}
