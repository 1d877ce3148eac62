//go:build cluster

package cluster

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// packGo builds the certs plugin of tests/vendors in Go into a folder outside
// the repository, as its vendor would hand it over.
func packGo(t *testing.T, version string) string {
	t.Helper()
	dir := filepath.Join(passable(t), "acme-corp")
	program := filepath.Join(dir, "bin", "acme-corp")
	build := exec.CommandContext(t.Context(), "go", "-C", "../vendors", "build", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+version, "-o", program, "./certs-acme-corp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the vendor's plugin: %v\n%s", err, out)
	}
	manifest, err := exec.CommandContext(t.Context(), program, "--manifest").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plugin.yaml"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// packPython does the same with the one in Python.
func packPython(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(passable(t), "serpent")
	pack := exec.CommandContext(t.Context(), "../vendors/certs-serpent/bin/serpent", "--pack", "../../sdk/proto/testdata/released.binpb", dir)
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("pack the vendor's plugin: %v\n%s", err, out)
	}
	return dir
}

// TestVendorInGo has a stranger's certs plugin make and sign everything from
// before the first start on, through its versions, to its removal.
func TestVendorInGo(t *testing.T) {
	m := newMachine(t, 7, true)
	m.run("mk", "plugin", "install", packGo(t, "1.0.0"), "--yes")
	m.run("mk", "plugin", "use", "certs/acme-corp")
	m.run("mk", "start", "--name", "node-v")
	issuedBy(t, m, "Acme Issuing CA")
	trusts(t, m, "ca.crt", "Acme Root for kubernetes")
	for _, file := range []string{"client-ca.crt", "front-proxy-ca.crt", "datastore-ca.crt"} {
		trusts(t, m, file, "Acme Issuing CA")
	}
	// The API server is the kubelet's client here, and its own server.
	m.kubectl("get", "--raw", "/api/v1/nodes/node-v/proxy/healthz")
	t.Run("a signing request is served by the vendor's plugin", func(t *testing.T) { signingRequest(t, m) })
	t.Run("another client of the company is a stranger", func(t *testing.T) { stranger(t, m) })
	t.Run("versions", func(t *testing.T) { versions(t, m) })
	t.Run("a changed program is found", func(t *testing.T) { changed(t, m, "certs/acme-corp", "bin/acme-corp") })
}

// TestVendorInPython does the main part of it with a plugin in Python, which
// loads more than its program.
func TestVendorInPython(t *testing.T) {
	m := newMachine(t, 8, true)
	m.run("mk", "plugin", "install", packPython(t), "--yes")
	m.run("mk", "plugin", "use", "certs/serpent")
	m.run("mk", "start", "--name", "node-p")
	issuedBy(t, m, "serpent-")
	m.run("mk", "refresh-certs", "front-proxy-client")
	m.run("mk", "plugin", "verify", "certs/serpent")
	t.Run("a changed module is found", func(t *testing.T) { changed(t, m, "certs/serpent", "bin/authority.py") })
}

// issuedBy looks at every certificate of the node, and that nobody else has
// made an authority.
func issuedBy(t *testing.T, m *machine, issuer string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.Root, "certs/*.crt"))
	if err != nil || len(files) < 12 {
		t.Fatalf("certificates: %v (%v)", files, err)
	}
	for _, f := range append(files, filepath.Join(m.Root, "var/kubernetes/backend/cluster.crt")) {
		if strings.HasSuffix(f, "-ca.crt") || strings.HasSuffix(f, "/ca.crt") {
			continue
		}
		if out := m.run("openssl", "x509", "-in", f, "-noout", "-issuer"); !strings.Contains(out, issuer) {
			t.Errorf("%s: %s", f, out)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(m.Root, "plugins/state/certs/local/*")); len(left) > 0 {
		t.Errorf("certs/local holds %v", left)
	}
}

func trusts(t *testing.T, m *machine, file, subject string) {
	t.Helper()
	if out := m.run("openssl", "x509", "-in", filepath.Join(m.Root, "certs", file), "-noout", "-subject"); !strings.Contains(out, subject) {
		t.Errorf("%s: %s", file, out)
	}
}

// stranger has the company's root certify a client that names itself an
// administrator, through another intermediate than the cluster's.
func stranger(t *testing.T, m *machine) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.Root, "plugins/state/certs/acme-corp/acme.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Name          string
		Root, RootKey []byte
	}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	dir := passable(t)
	for _, a := range all {
		if a.Name == "kubernetes" {
			write(t, dir, "root.crt", a.Root)
			write(t, dir, "root.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: a.RootKey}))
		}
	}
	write(t, dir, "make.sh", []byte(`set -e
ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "$@"; }
ca -keyout other.key -out other.crt -subj "/CN=Acme Mail" -CA root.crt -CAkey root.key -addext basicConstraints=critical,CA:true -addext keyUsage=keyCertSign
ca -keyout client.key -out leaf.crt -subj /O=system:masters/CN=admin -CA other.crt -CAkey other.key \
	-addext basicConstraints=critical,CA:false -addext keyUsage=digitalSignature -addext extendedKeyUsage=clientAuth
cat leaf.crt other.crt > client.crt
openssl verify -CAfile root.crt -untrusted other.crt -purpose sslclient leaf.crt
`))
	m.host("sh", "-c", "cd "+dir+" && sh make.sh")
	for folder, want := range map[string]string{dir: "401", filepath.Join(m.Root, "certs"): "200"} {
		got := m.run("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--cert", folder+"/client.crt", "--key", folder+"/client.key",
			"https://127.0.0.1:16443/api/v1/nodes")
		if got != want {
			t.Errorf("a client with the certificate in %s gets %s instead of %s", folder, got, want)
		}
		// The kubelet is a server of its own.
		got, _ = m.try(20*time.Second, "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--cert", folder+"/client.crt",
			"--key", folder+"/client.key", "https://127.0.0.1:10250/pods")
		if got != want {
			t.Errorf("the kubelet answers the client in %s with %s instead of %s", folder, got, want)
		}
	}
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// versions takes a newer version on the running node, lets it sign, and goes
// back.
func versions(t *testing.T, m *machine) {
	t.Helper()
	active := func(want string) {
		t.Helper()
		for line := range strings.Lines(m.run("mk", "plugin", "list")) {
			if f := strings.Fields(line); f[0] == "certs/acme-corp" && (f[2] != "-") != (f[1] == want) {
				t.Errorf("active should be %s: %s", want, line)
			}
		}
	}
	m.run("mk", "plugin", "install", packGo(t, "1.1.0"), "--yes")
	active("1.0.0")
	m.run("mk", "plugin", "use", "certs/acme-corp@1.1.0")
	active("1.1.0")
	m.run("mk", "refresh-certs", "front-proxy-client")
	issuedBy(t, m, "Acme Issuing CA")
	m.run("mk", "plugin", "rollback", "certs/acme-corp")
	active("1.0.0")
	m.run("mk", "plugin", "remove", "certs/acme-corp@1.1.0")
	m.refused(1, "mk", "plugin", "remove", "certs/acme-corp")
	m.refused(3, "mk", "plugin", "use", "certs/local")
	m.run("mk", "plugin", "verify")
	m.run("mk", "status", "--wait-ready", "--timeout", "60s")
}

// changed swaps a byte of an installed file: it is found, and the plugin is not
// started any more.
func changed(t *testing.T, m *machine, plugin, file string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.Root, "plugins/store/*", file))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v (%v)", file, found, err)
	}
	was, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		if err := os.WriteFile(found[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(append(append([]byte{}, was...), '\n'))
	m.refused(3, "mk", "plugin", "verify", plugin)
	m.refused(3, "mk", "refresh-certs", "front-proxy-client")
	write(was)
	m.run("mk", "refresh-certs", "front-proxy-client")
}

// refused runs a command that must end with this code.
func (m *machine) refused(code int, name string, args ...string) {
	m.t.Helper()
	cmd := m.Command(m.t.Context(), name, args...)
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != code {
		m.t.Errorf("%s %s: exit %d instead of %d\n%s", name, strings.Join(args, " "), cmd.ProcessState.ExitCode(), code, out)
	}
}
