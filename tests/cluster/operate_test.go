//go:build cluster

package cluster

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestOperate does to one running node what its owner does: it looks, renews,
// sets, undoes, and asks what would be.
func TestOperate(t *testing.T) {
	m := newMachine(t, 4, true)
	m.run("mk", "start", "--name", "node-o")

	t.Run("Kubernetes is whole", func(t *testing.T) { whole(t, m) })
	t.Run("images are pulled, also from a mirror", func(t *testing.T) { pulls(t, m) })
	t.Run("a name in csr.conf.template is served", func(t *testing.T) { edits(t, m) })
	t.Run("certificates pass the judges", func(t *testing.T) { judge(t, m) })
	t.Run("status, doctor and inspect", func(t *testing.T) { look(t, m) })
	t.Run("dry runs change nothing", func(t *testing.T) { dryRuns(t, m) })
	t.Run("renewed certificates are read without a restart", func(t *testing.T) { renew(t, m) })
	t.Run("an argument is set and unset", func(t *testing.T) { setArgument(t, m) })
	t.Run("an argument that a service does not come up with", func(t *testing.T) { brokenArgument(t, m) })
	t.Run("a signing request is served by the certs plugin", func(t *testing.T) { signingRequest(t, m) })
	t.Run("flags", func(t *testing.T) { flags(t, m) })
	t.Run("wrong input", func(t *testing.T) { wrongInput(t, m) })
}

// judge runs the acceptance script over the node's certificates, on the
// machine, because it compares with the machine's address. kubeadm wants to see
// the authorities' keys; a node has none of them beside its certificates, so
// they are taken from the plugin that owns them.
func judge(t *testing.T, m *machine) {
	t.Helper()
	script, err := filepath.Abs("../../../shared/acceptance/certs.sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := passable(t)
	m.host("cp", "-rL", filepath.Join(m.Root, "certs"), dir)
	authorityKeys(t, m, filepath.Join(dir, "certs"))
	cmd := m.Command(t.Context(), "bash", script, filepath.Join(dir, "certs"), filepath.Join(m.Root, "credentials"))
	cmd.Env = append(cmd.Env, "ZLINT="+filepath.Join(m.Out, "testbin/zlint"), "KUBEADM="+filepath.Join(m.Out, "testbin/kubeadm"))
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "failures: 0") {
		t.Fatalf("%v\n%s", err, text)
	}
	faults := regexp.MustCompile(`fatal (\d+) error (\d+)`).FindAllStringSubmatch(text, -1)
	if len(faults) < 10 {
		t.Errorf("zlint judged %d certificates:\n%s", len(faults), text)
	}
	for _, f := range faults {
		if f[1] != "0" || f[2] != "0" {
			t.Errorf("RFC 5280 faults:\n%s", text)
		}
	}
	if !strings.Contains(text, "init phase certs all: accepted") {
		t.Errorf("kubeadm did not judge:\n%s", text)
	}
}

// authorityKeys writes the keys of certs/local's authorities into dir.
func authorityKeys(t *testing.T, m *machine, dir string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.Root, "plugins/state/certs/local/authorities.json"))
	if err != nil {
		t.Fatal(err)
	}
	var store struct {
		Authorities map[string][]struct{ Key []byte }
	}
	if err := json.Unmarshal(data, &store); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"kubernetes": "ca.key", "front-proxy": "front-proxy-ca.key"} {
		block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: store.Authorities[name][0].Key})
		if err := os.WriteFile(filepath.Join(dir, file), block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func look(t *testing.T, m *machine) {
	t.Helper()
	if out := m.run("mk", "status"); !strings.Contains(out, "mk is running: node-o") {
		t.Errorf("status:\n%s", out)
	}
	if out := m.run("mk", "status", "-o", "json"); !strings.Contains(out, `"ready": true`) {
		t.Errorf("status -o json:\n%s", out)
	}
	m.run("mk", "doctor", "--check")
	report := filepath.Join(passable(t), "report.tar.gz")
	m.run("mk", "inspect", "--to", report)
	list := m.run("tar", "-tzf", report)
	if strings.Contains(list, ".key") || !strings.Contains(list, "status.json") {
		t.Errorf("report:\n%s", list)
	}
}

// tree is every path of the node with mode, size and time.
func tree(t *testing.T, m *machine) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "find", m.Root, "-path", "*/var/log", "-prune", "-o", "-path", "*/var/lib", "-prune", "-o",
		"-path", "*/backend/etcd", "-prune", "-o", "-type", "f", "-printf", `%P %m %s %T@\n`).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func dryRuns(t *testing.T, m *machine) {
	t.Helper()
	before := tree(t, m)
	for _, words := range [][]string{
		{"start"}, {"enable", "dns"}, {"args", "set", "kubelet", "max-pods=77"}, {"plugin", "use", "certs/local"},
		{"refresh-certs"}, {"reset", "--all"}, {"stop"}, {"restart"},
	} {
		m.run("mk", append(words, "--dry-run")...)
	}
	if after := tree(t, m); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// renew renews everything; the processes stay the same and serve the new pair.
func renew(t *testing.T, m *machine) {
	t.Helper()
	serial := func() string {
		return m.run("sh", "-c", "openssl s_client -connect 127.0.0.1:16443 </dev/null 2>/dev/null | openssl x509 -noout -serial")
	}
	pids := func() string { return kubelites(t, m) }
	before, processes := serial(), pids()
	m.run("mk", "refresh-certs")
	m.eventually(90*time.Second, func() error {
		if serial() == before {
			return errServed
		}
		return nil
	})
	if now := pids(); now != processes {
		t.Errorf("kubelite was restarted: %s, before %s", now, processes)
	}
	m.run("mk", "status", "--wait-ready", "--timeout", "60s")
	// The kubelet reads its own pair, and the API server its client's.
	m.eventually(90*time.Second, func() error {
		_, err := m.try(10*time.Second, "mk", "kubectl", "get", "--raw", "/api/v1/nodes/node-o/proxy/healthz")
		return err
	})
}

// kubelites are the node's kubelite processes.
func kubelites(t *testing.T, m *machine) string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.HasPrefix(string(cmdline), "kubelite\x00") && strings.Contains(string(cmdline), m.Root) {
			out = append(out, e.Name())
		}
	}
	if len(out) == 0 {
		t.Error("kubelite does not run")
	}
	return strings.Join(out, " ")
}

type served string

func (s served) Error() string { return string(s) }

const errServed = served("the old certificate is served")

func setArgument(t *testing.T, m *machine) {
	t.Helper()
	pods := func() string { return m.kubectl("get", "node", "node-o", "-o", "jsonpath={.status.capacity.pods}") }
	m.run("mk", "args", "set", "kubelet", "max-pods=77")
	lines := strings.Split(strings.TrimSpace(m.run("mk", "changes")), "\n")
	shown := m.run("mk", "changes", "show", strings.Fields(lines[len(lines)-1])[0])
	for _, want := range []string{"mk args set kubelet max-pods=77", "replace  args/kubelet", "restart  kubelite"} {
		if !strings.Contains(shown, want) {
			t.Errorf("mk changes show has no %q:\n%s", want, shown)
		}
	}
	// It has answered when the node works with it: nothing is waited for here.
	if got := pods(); got != "77" {
		t.Errorf("max-pods after set: %s", got)
	}
	m.run("mk", "args", "unset", "kubelet", "max-pods")
	if got := pods(); got != "110" {
		t.Errorf("max-pods after unset: %s", got)
	}
}

// brokenArgument sets what a service does not come up with. Where it says so at
// once that is taken back. The scheduler starts when the API server has: then
// the node is not ready with it, and the way back is named, and works.
func brokenArgument(t *testing.T, m *machine) {
	t.Helper()
	a := m.answer("args", "set", "flanneld", "no-such-flag=1")
	wants(t, a, "mk: flanneld does not come up: it ended 3 times before it was ready", "why   flag provided but not defined: -no-such-flag",
		"mk logs flanneld --since 5m", "state the argument was taken back")
	if out, err := m.try(time.Minute, "mk", "args", "get", "flanneld", "no-such-flag"); err == nil {
		t.Errorf("it stands there: %s", out)
	}
	a = m.answer("args", "set", "kube-scheduler", "config=/no-such-file")
	wants(t, a, "mk: not ready: kubelite restarts again and again", "why   kubelite: fatal: scheduler: set up: open /no-such-file: no such file or directory",
		"next  sudo mk changes undo ", "mk logs kubelite --since 5m", "the node does not work with it")
	if out := m.answer("status"); !strings.Contains(out.out, "mk is not ready") {
		t.Errorf("with a scheduler that does not start:\n%s", out.out)
	}
	back := regexp.MustCompile(`sudo (mk changes undo \d+)`).FindStringSubmatch(a.errs)
	if back == nil {
		t.Fatal("no way back is named")
	}
	words := strings.Fields(back[1])
	m.run(words[0], words[1:]...)
	m.kubectl("get", "nodes")
	if out := m.run("mk", "status", "--wait-ready", "--timeout", "1m"); !strings.Contains(out, "mk is running: node-o") {
		t.Errorf("without the argument:\n%s", out)
	}
}

// signingRequest has a person's request approved and signed, and uses what
// comes of it.
func signingRequest(t *testing.T, m *machine) {
	t.Helper()
	dir := passable(t)
	m.host("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-keyout", dir+"/key", "-out", dir+"/csr", "-subj", "/CN=jane/O=dev")
	csr := m.run("base64", "-w0", dir+"/csr")
	m.apply(`
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: jane}
spec:
  request: ` + csr + `
  signerName: kubernetes.io/kube-apiserver-client
  usages: [client auth]
`)
	m.kubectl("certificate", "approve", "jane")
	m.eventually(time.Minute, func() error {
		out, err := m.try(10*time.Second, "mk", "kubectl", "get", "csr", "jane", "-o", "jsonpath={.status.certificate}{.status.conditions}")
		if err != nil || !strings.HasPrefix(out, "LS0t") {
			return served("not signed: " + out)
		}
		return nil
	})
}

// wrongInput gets a clear error, the right exit code, and changes nothing.
func wrongInput(t *testing.T, m *machine) {
	t.Helper()
	before := tree(t, m)
	for code, lines := range map[int][]string{
		1: {"args get kubelet nothing", "plugin remove certs/local", "plugin rollback certs/local"},
		2: {"statsu", "start extra", "start --no-such-flag", "args list kubelt", "args set kubelet bad_name=1", "enable", "enable nothing",
			"enable dns:nowhere", "settings set nothing 1", "settings set key-type md5", "restart nothing", "certs show nothing",
			"refresh-certs nothing", "changes show x", "images import /no/such/file", "plugin install /no/such/folder", "plugin use local",
			"doctor nothing", "status -o xml", "logs nothing", "help nothing", "completion tcsh", "config --user nobody", "reset"},
		6: {"reset --all"},
	} {
		for _, line := range lines {
			ctx := t.Context()
			cmd := m.Command(ctx, "mk", strings.Fields(line)...)
			out, _ := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("mk %s: exit %d instead of %d\n%s", line, got, code, out)
			}
			if !strings.HasPrefix(string(out), "mk: ") || strings.Contains(string(out), "goroutine ") {
				t.Errorf("mk %s: %s", line, out)
			}
		}
	}
	after := tree(t, m)
	// Operations that were begun and refused stand in the journal.
	strip := func(s string) string {
		var keep []string
		for line := range strings.Lines(s) {
			if !strings.HasPrefix(line, "var/journal/") && !strings.HasPrefix(line, "var/lock/") {
				keep = append(keep, line)
			}
		}
		return strings.Join(keep, "")
	}
	if strip(after) != strip(before) {
		t.Errorf("before:\n%s\nafter:\n%s", strip(before), strip(after))
	}
}
