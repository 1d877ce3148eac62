package manifest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/pluginsdir/problem"
	"mk8s.io/mk/sdk/plugin"
)

const good = `apiVersion: mk8s.io/v1
kind: Plugin
identity:
  kind: clustering
  name: vault-9
  version: 2.3.0
  publisher: Example
  description: one line
  homepage: https://example.com
contracts: [mk.clustering.v1]
capabilities: [pending]
requires: {mk: ">=0.1.0"}
platforms:
- {os: linux, arch: amd64, bin: bin/vault, sha256: "0000000000000000000000000000000000000000000000000000000000000000"}
- {os: linux, arch: any, bin: bin/vault.py, sha256: "1111111111111111111111111111111111111111111111111111111111111111"}
grants:
  filesRead: ["args/**"]
  arguments: [kubelet/cluster-dns]
  network: ["vault:8200"]
  objects:
  - {group: apps, kinds: [Deployment], namespaces: [default]}
settings:
  type: object
  properties:
    token: {type: string, writeOnly: true}
steps:
- {question: Join, name: learner, revocable: true}
exportable: true
routes:
- {method: POST, path: /cluster/api/v1.0/join, headers: [X-A]}
timeouts: {start: 10s, questions: {Join: 5m}}
`

func TestParse(t *testing.T) {
	t.Parallel()
	m, err := Parse([]byte(good), "plugin.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if m.Identity.Identity.String() != "clustering/vault-9" || m.Timeouts.Start.Value(0) != 10*time.Second ||
		m.Timeouts.Questions["Join"].Value(0) != 5*time.Minute || m.Grants.Objects[0].Kinds[0] != "Deployment" {
		t.Errorf("got %+v", m)
	}
	if p, _ := m.Program("linux", "amd64"); p.Bin != "bin/vault" {
		t.Errorf("amd64: %+v", p)
	}
	if p, _ := m.Program("linux", "arm64"); p.Bin != "bin/vault.py" {
		t.Errorf("arm64: %+v", p)
	}
	if _, ok := m.Program("darwin", "arm64"); ok {
		t.Error("darwin has a program")
	}
}

func TestParseNamesFaultsWithTheirLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new, want string }{
		"api version":       {"mk8s.io/v1", "v2", "p:1: apiVersion: must be mk8s.io/v1"},
		"kind":              {"kind: Plugin", "kind: Pod", "p:2: kind: must be Plugin"},
		"plugin kind":       {"kind: clustering", "kind: storage", "p:4: identity.kind: must be one of certs"},
		"name":              {"vault-9", "Vault", "p:5: identity.name: \"Vault\" is no name"},
		"name with slash":   {"vault-9", "../x", "p:5: identity.name"},
		"long name":         {"vault-9", strings.Repeat("x", 41), "p:5: identity.name"},
		"version":           {"2.3.0", "v2.3", "p:6: identity.version: \"v2.3\" is no version"},
		"version as number": {"2.3.0", "2.3", "p:6: identity.version: must be text"},
		"homepage":          {"https://example.com", "javascript:x", "p:9: identity.homepage"},
		"contract":          {"[mk.clustering.v1]", "[mk.certs.v1]", "p:10: contracts: must hold the one of its kind, like mk.clustering.v1"},
		"no contract":       {"[mk.clustering.v1]", "[]", "p:10: contracts"},
		"capability":        {"[pending]", "[A B]", "p:11: capabilities[0]"},
		"requires":          {">=0.1.0", "new", "p:12: requires.mk"},
		"bin outside":       {"bin/vault,", "../vault,", "p:14: platforms[0].bin"},
		"bin absolute":      {"bin/vault,", "/bin/sh,", "p:14: platforms[0].bin"},
		"bin is manifest":   {"bin/vault,", "plugin.yaml,", "p:14: platforms[0].bin"},
		"sha256":            {strings.Repeat("1", 64), "1234", "p:15: platforms[1].sha256"},
		"platform twice":    {"arch: any", "arch: amd64", "p:15: platforms[1]: linux/amd64 is there twice"},
		"absolute glob":     {"args/**", "/etc/**", "p:17: grants.filesRead[0]"},
		"glob upwards":      {"args/**", "args/../..", "p:17: grants.filesRead[0]"},
		"glob syntax":       {"args/**", "args/[", "p:17: grants.filesRead[0]"},
		"glob stars":        {"args/**", "args/a**", "p:17: grants.filesRead[0]"},
		"argument":          {"kubelet/cluster-dns", "kubelet", "p:18: grants.arguments[0]"},
		"argument dashes":   {"kubelet/cluster-dns", "kubelet/--x", "p:18: grants.arguments[0]"},
		"network":           {"vault:8200", "vault", "p:19: grants.network[0]"},
		"port":              {"vault:8200", "vault:0", "p:19: grants.network[0]"},
		"object kind":       {"[Deployment]", "[deployments]", "p:21: grants.objects[0].kinds[0]"},
		"no object kind":    {"[Deployment]", "[]", "p:21: grants.objects[0].kinds"},
		"namespace":         {"[default]", "[De_fault]", "p:21: grants.objects[0].namespaces[0]"},
		"unknown grant":     {"filesRead:", "filesAll:", "p:17: grants.filesAll: unknown field"},
		"schema":            {"type: object", "type: thing", "p:22: settings:"},
		"remote schema":     {"type: object", "$ref: https://example.com/x", "may only refer to itself"},
		"file schema":       {"type: object", "$ref: file:///etc/passwd", "may only refer to itself"},
		"step":              {"question: Join,", "question: join,", "p:27: steps[0].question"},
		"route":             {"/cluster/api", "/../api", "p:30: routes[0].path"},
		"method":            {"POST", "post", "p:30: routes[0].method"},
		"start":             {"start: 10s", "start: 61s", "p:31: timeouts.start: \"61s\" is no time of at most 1m0s"},
		"question time":     {"Join: 5m", "Join: 0s", "p:31: timeouts.questions.Join"},
		"question name":     {"Join: 5m", "join: 5s", "p:31: timeouts.questions.join"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(good, c.old) {
				t.Fatalf("%q is not in the manifest", c.old)
			}
			_, err := Parse([]byte(strings.Replace(good, c.old, c.new, 1)), "p")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %q in it", err, c.want)
			}
		})
	}
}

func TestParseTellsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("apiVersion: x\nkind: y\nextra: 1\n"), "p")
	for _, want := range []string{"p:1: apiVersion", "p:2: kind", "p:3: extra", "identity.name", "platforms"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func described(m *Manifest) plugin.Description {
	return plugin.Description{
		Identity: m.Identity.Identity, Contracts: m.Contracts, Capabilities: m.Capabilities, Settings: m.Settings,
		Grants: m.Grants, Steps: m.Steps, Exportable: m.Exportable, Routes: m.Routes,
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	m, err := Parse([]byte(good), "p")
	if err != nil {
		t.Fatal(err)
	}
	d := described(m)
	d.Settings = []byte(`{"properties":{"token":{"writeOnly":true,  "type":"string"}},"type":"object"}`)
	if diff := m.Equal(d); len(diff) != 0 {
		t.Errorf("differs: %v", diff)
	}
	for want, change := range map[string]func(*plugin.Description){
		"kind: ": func(d *plugin.Description) { d.Identity.Kind = "certs" },
		"name: ": func(d *plugin.Description) { d.Identity.Name = "x" },
		`version: the manifest says "2.3.0", the program "9.9.9"`: func(d *plugin.Description) { d.Identity.Version = "9.9.9" },
		"publisher: ":  func(d *plugin.Description) { d.Identity.Publisher = "x" },
		"contracts: ":  func(d *plugin.Description) { d.Contracts = nil },
		"capabilities": func(d *plugin.Description) { d.Capabilities = []string{"pending", "more"} },
		"grants: the manifest says nothing more, the program [\"runs programs on the host\"]": func(d *plugin.Description) { d.Grants.HostExec = true },
		"steps: ":      func(d *plugin.Description) { d.Steps = []plugin.StepDescription{{Question: "Join", Name: "learner"}} },
		"routes: ":     func(d *plugin.Description) { d.Routes = nil },
		"exportable: ": func(d *plugin.Description) { d.Exportable = false },
		"settings: ":   func(d *plugin.Description) { d.Settings = []byte(`{}`) },
	} {
		d := described(m)
		change(&d)
		if diff := m.Equal(d); len(diff) != 1 || !strings.HasPrefix(diff[0], want) {
			t.Errorf("want %q, got %q", want, diff)
		}
	}
}

func TestCheckNamesTheWayOut(t *testing.T) {
	t.Parallel()
	version := func(v, contract string) *Manifest {
		m, err := Parse([]byte(strings.NewReplacer("2.3.0", v, "mk.clustering.v1", contract).Replace(good)), "p")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	h := Host{Contracts: []string{"mk.certs.v1", "mk.clustering.v1"}, Version: "0.1.0-dev", OS: "linux", Arch: "amd64"}
	if err := h.Check(version("2.3.0", "mk.clustering.v1")); err != nil {
		t.Errorf("fits, but: %v", err)
	}
	err := h.Check(version("2.3.0", "mk.clustering.v2"), version("1.9.4", "mk.clustering.v1"), version("1.10.1", "mk.clustering.v1"))
	want := "plugin clustering/vault-9 2.3.0 does not fit: clustering/vault-9 2.3.0 speaks clustering.v2, this mk speaks clustering.v1; " +
		"1.10.1 is the newest that fits; next: mk plugin install clustering/vault-9@~1.10"
	if err == nil || err.Error() != want || !errors.Is(err, problem.ErrRefused) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	h.Version = "0.0.9"
	if err := h.Check(version("2.3.0", "mk.clustering.v1")); err == nil || !strings.Contains(err.Error(), "needs mk >=0.1.0, this is mk 0.0.9") {
		t.Errorf("got %v", err)
	}
	h.Version, h.OS = "1.0.0", "plan9"
	if err := h.Check(version("2.3.0", "mk.clustering.v1")); err == nil || !strings.Contains(err.Error(), "programs for linux/amd64, linux/any, this machine is plan9/amd64") {
		t.Errorf("got %v", err)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	objects := func(group, kind string, namespaces ...string) plugin.Grants {
		return plugin.Grants{Objects: []plugin.ObjectGrant{{Group: group, Kinds: []string{kind}, Namespaces: namespaces}}}
	}
	for name, c := range map[string]struct {
		kind   string
		grants plugin.Grants
		root   bool
	}{
		"nothing":                  {"addons", plugin.Grants{}, false},
		"certs":                    {"certs", plugin.Grants{}, true},
		"tokens":                   {"tokens", plugin.Grants{}, true},
		"clustering":               {"clustering", plugin.Grants{}, true},
		"writes args":              {"addons", plugin.Grants{FilesWrite: []string{"args/kubelet"}}, true},
		"writes cni":               {"addons", plugin.Grants{FilesWrite: []string{"args/cni-network/x.conflist"}}, true},
		"writes all":               {"addons", plugin.Grants{FilesWrite: []string{"**"}}, true},
		"writes top":               {"addons", plugin.Grants{FilesWrite: []string{"*"}}, true},
		"writes by class":          {"addons", plugin.Grants{FilesWrite: []string{"cert[a-z]/x"}}, true},
		"writes around":            {"addons", plugin.Grants{FilesWrite: []string{"var"}}, true},
		"writes deep":              {"addons", plugin.Grants{FilesWrite: []string{"v*/**/x"}}, true},
		"writes generations":       {"addons", plugin.Grants{FilesWrite: []string{"var/certs/1/ca.crt"}}, true},
		"writes own folder":        {"addons", plugin.Grants{FilesWrite: []string{"var/lib/dns/**"}}, false},
		"reads ca":                 {"addons", plugin.Grants{FilesRead: []string{"certs/ca.crt", "certs/*.crt"}}, false},
		"reads args":               {"addons", plugin.Grants{FilesRead: []string{"args/**"}}, false},
		"reads keys":               {"addons", plugin.Grants{FilesRead: []string{"certs/*"}}, true},
		"reads credentials":        {"addons", plugin.Grants{FilesRead: []string{"credentials/client.config"}}, true},
		"host exec":                {"addons", plugin.Grants{HostExec: true}, true},
		"members":                  {"addons", plugin.Grants{Members: true}, true},
		"trust":                    {"addons", plugin.Grants{Trust: []string{"kubernetes"}}, true},
		"dns arguments":            {"addons", plugin.Grants{Arguments: []string{"kubelet/cluster-dns", "kubelet/cluster-domain"}}, false},
		"authorization":            {"addons", plugin.Grants{Arguments: []string{"kube-apiserver/authorization-mode"}}, true},
		"any argument":             {"addons", plugin.Grants{Arguments: []string{"kubelet/*"}}, true},
		"network":                  {"addons", plugin.Grants{Network: []string{"*:443"}}, false},
		"services":                 {"addons", plugin.Grants{Services: []string{"kubelite"}}, false},
		"certificate":              {"addons", plugin.Grants{Certificates: []string{"server"}}, false},
		"deployment":               {"addons", objects("apps", "Deployment", "ingress"), false},
		"deployment in system":     {"addons", objects("apps", "Deployment", "kube-system"), true},
		"pod anywhere":             {"addons", objects("", "Pod", "*"), true},
		"config map in system":     {"addons", objects("", "ConfigMap", "kube-system"), false},
		"config map in mk-system":  {"addons", objects("", "ConfigMap", "mk-system"), true},
		"secret":                   {"addons", objects("", "Secret", "ingress"), false},
		"secret in system":         {"addons", objects("", "Secret", "kube-system"), true},
		"all of core in system":    {"addons", objects("", "*", "kube-system"), true},
		"all of core, one place":   {"addons", objects("", "*", "ingress"), false},
		"cluster-wide of core":     {"addons", objects("", "*"), true},
		"rbac":                     {"addons", objects("rbac.authorization.k8s.io", "Role", "x"), true},
		"any group's cluster role": {"addons", objects("*", "ClusterRole"), true},
		"webhook":                  {"addons", objects("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"), true},
		"api service":              {"addons", objects("apiregistration.k8s.io", "APIService"), true},
		"crd":                      {"addons", objects("apiextensions.k8s.io", "CustomResourceDefinition"), true},
		"everything":               {"addons", objects("*", "*", "x"), true},
		"storage class":            {"addons", objects("storage.k8s.io", "StorageClass"), false},
	} {
		class, why := Classify(c.kind, c.grants)
		if (class == RootEquivalent) != c.root || (len(why) > 0) != c.root {
			t.Errorf("%s: %s, because %q", name, class, why)
		}
	}
}

func TestWidened(t *testing.T) {
	t.Parallel()
	old := plugin.Grants{
		FilesRead: []string{"a/*", "**"}, Network: []string{"vault:8200"},
		Objects: []plugin.ObjectGrant{{Group: "apps", Kinds: []string{"Deployment", "DaemonSet"}, Namespaces: []string{"x"}}},
	}
	same := plugin.Grants{
		FilesRead: []string{"b/c"}, Network: []string{"vault:8200"},
		Objects: []plugin.ObjectGrant{
			{Group: "apps", Kinds: []string{"DaemonSet"}, Namespaces: []string{"x"}},
			{Group: "apps", Kinds: []string{"Deployment"}, Namespaces: []string{"x"}},
		},
	}
	if w := Widened(old, same); len(w) != 0 {
		t.Errorf("widened: %q", w)
	}
	more := same
	more.Network = []string{"vault:8200", "other:1"}
	more.HostExec = true
	more.Objects = []plugin.ObjectGrant{{Group: "apps", Kinds: []string{"Deployment"}, Namespaces: []string{"x", "y"}}}
	got := strings.Join(Widened(old, more), "|")
	if want := "applies objects: Deployment.apps in y|network: other:1|runs programs on the host"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestVersionsAreComparedAsNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"1.9.0", "1.10.0", -1}, {"2.0.0", "10.0.0", -1}, {"1.0.0", "1.0.0-rc.9", 1}, {"1.0.0-rc.9", "1.0.0-rc.10", -1}, {"1.0.0", "1.0.0", 0}, {"x", "0.0.1", -1}} {
		if got := CompareVersions(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %d", c.a, c.b, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("apiVersion: mk8s.io/v1\nsettings: {$ref: '#'}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data, "p")
		if err != nil {
			return
		}
		if diff := m.Equal(described(m)); len(diff) > 0 {
			t.Errorf("differs from itself: %v", diff)
		}
		Classify(m.Identity.Kind, m.Grants)
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(out, "again"); err != nil {
			t.Errorf("what was written is not read: %v\n%s", err, out)
		}
	})
}
