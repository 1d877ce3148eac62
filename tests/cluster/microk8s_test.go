//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// guest is a machine with a node of MicroK8s: its folders, and Kubernetes'
// programs with the arguments and files that the cluster gave it.
type guest struct {
	*machine
	name, data, run, cgroup string
}

// guestWorker has a node of MicroK8s join server's cluster by its own client,
// and run a pod with the files that it got.
func guestWorker(t *testing.T, server, m *machine) {
	dir := passable(t)
	g := &guest{machine: m, name: "guest-1", data: filepath.Join(dir, "data"), run: filepath.Join(dir, "run"), cgroup: "/mk-guest-" + filepath.Base(dir)}
	before := strings.Count(server.kubectl("get", "nodes", "--no-headers"), "\n")
	url := server.invitation().URLs[0]
	if _, err := g.client("join", url[:strings.LastIndexByte(url, '/')], "--worker"); err == nil || !strings.Contains(err.Error(), "501 ") {
		t.Errorf("a MicroK8s worker where none is let in: %v", err)
	}
	server.run("mk", "settings", "set", "accept-microk8s", "true")
	if out := server.run("mk", "status"); !strings.Contains(out, "accept-microk8s is on") {
		t.Errorf("mk status does not say that MicroK8s' clients are let in:\n%s", out)
	}
	invited := server.invitation("--worker").MicroK8s[0]
	guestRefused(g, invited)
	// Where somebody decides about joins, a guest's waits for that, too.
	server.run("mk", "plugin", "use", "clustering/approve")
	if _, err := g.client("join", invited, "--worker"); err == nil || !strings.Contains(err.Error(), "503 Not yet, ask again") {
		t.Errorf("a MicroK8s worker about which nobody has decided: %v", err)
	}
	server.run("mk", "node", "approve", g.name)
	g.join(invited)
	server.run("mk", "plugin", "use", "clustering/etcd")
	if _, err := g.client("join", invited, "--worker"); err == nil || !strings.Contains(err.Error(), "500 Invalid token") {
		t.Errorf("a token that was used: %v", err)
	}
	g.start(server)
	nodesReady(t, server, before+1)
	g.pod(server)
	guestCalls(t, server, g)
	server.run("mk", "status", "--wait-ready", "--timeout", "2m") // its services were restarted
	server.run("mk", "remove-node", g.name, "--force")
	nodesReady(t, server, before)
	g.barred(server)
	server.run("mk", "settings", "unset", "accept-microk8s")
}

// invitations are what mk add-node answers.
type invitations struct {
	URLs     []string `json:"urls"`
	MicroK8s []string `json:"microk8s"`
}

func (m *machine) invitation(flags ...string) invitations {
	m.t.Helper()
	var i invitations
	if err := json.Unmarshal([]byte(m.run("mk", append([]string{"add-node", "-o", "json"}, flags...)...)), &i); err != nil {
		m.t.Fatal(err)
	}
	return i
}

// client runs the client on the machine.
func (g *guest) client(verb string, words ...string) (string, error) {
	g.t.Helper()
	script, err := filepath.Abs("../microk8s-client/microk8s.py")
	if err != nil {
		g.t.Fatal(err)
	}
	if verb == "join" {
		words = append(words, "--hostname", strings.ToUpper(g.name), "--data", g.data, "--addresses", g.Address, "172.17.0.1", "10.152.183.7")
	}
	return g.try(3*time.Minute, "python3", append([]string{script, verb}, words...)...)
}

// guestRefused tries what nobody gets; the token is as good as before.
func guestRefused(g *guest, connection string) {
	g.t.Helper()
	parts := strings.Split(connection, "/")
	unknown := parts[0] + "/" + strings.Repeat("0", len(parts[1])) + "/" + parts[2]
	for _, c := range []struct {
		why   string
		words []string
	}{
		{"501 A MicroK8s node cannot be a control-plane node", []string{"join", connection}},
		{"500 Invalid token", []string{"join", unknown, "--worker"}},
		{"502 The port", []string{"join", connection, "--worker", "--port", "25001"}},
		{"not the one of the", []string{"join", parts[0] + "/" + parts[1] + "/" + strings.Repeat("0", 12), "--worker"}},
		{"500 Invalid token", []string{"sign", parts[0] + "/" + parts[1] + "-kubelet", "--subject", "/CN=admin/O=system:masters", "--key", filepath.Join(g.data, "x.key")}},
		{"500 Invalid token", []string{"sign", parts[0] + "/" + parts[1], "--subject", "/CN=admin/O=system:masters", "--key", filepath.Join(g.data, "x.key")}},
	} {
		if _, err := g.client(c.words[0], c.words[1:]...); err == nil || !strings.Contains(err.Error(), c.why) {
			g.t.Errorf("%s: %v, want %q", c.words[0], err, c.why)
		}
	}
}

// join joins, and looks at what came of it.
func (g *guest) join(connection string) {
	g.t.Helper()
	out, err := g.client("join", connection, "--worker")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Log(out)
	text := g.machine.run("openssl", "x509", "-noout", "-subject", "-ext", "subjectAltName,extendedKeyUsage", "-in", filepath.Join(g.data, "certs/kubelet.crt"))
	for _, want := range []string{"CN = system:node:" + g.name, "DNS:" + g.name, "IP Address:" + g.Address, "172.17.0.1"} {
		if !strings.Contains(text, want) {
			g.t.Errorf("the kubelet's certificate lacks %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, "10.152.183.7") {
		g.t.Errorf("the kubelet's certificate holds an address of services:\n%s", text)
	}
}

// start starts containerd and Kubernetes: with the arguments that the cluster
// gave, and a configuration for this machine like server's.
func (g *guest) start(server *machine) {
	g.t.Helper()
	out := inOut(g.t, "")
	g.cgroups()
	here := strings.NewReplacer(server.Root, filepath.Join(g.data, "common"), "/run/mk/"+server.ID(), g.run, "${SNAP_DATA}", g.data, "${SNAP_COMMON}/run", g.run, "${SNAP_COMMON}", filepath.Join(g.data, "common"))
	copied := func(from, to string, more ...string) {
		data, err := os.ReadFile(from)
		if err == nil {
			text := here.Replace(string(data))
			err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, []byte(text+strings.Join(more, "")), 0o600))
		}
		if err != nil {
			g.t.Fatal(err)
		}
	}
	common := filepath.Join(g.data, "common")
	copied(filepath.Join(server.Root, "args/containerd.toml"), filepath.Join(common, "args/containerd.toml"))
	copied(filepath.Join(server.Root, "args/cni-network/mk.conflist.in"), filepath.Join(common, "args/cni-network/mk.conflist.in"))
	config := "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupDriver: cgroupfs\ncgroupRoot: " + g.cgroup +
		"\nfailCgroupV1: false\npodLogsDir: " + filepath.Join(common, "pods") + "\nvolumePluginDir: " + filepath.Join(common, "volumeplugins") + "\n"
	if err := os.WriteFile(filepath.Join(g.data, "machine.yaml"), []byte(config), 0o600); err != nil {
		g.t.Fatal(err)
	}
	args := filepath.Join(g.data, "args")
	copied(filepath.Join(args, "kubelet"), filepath.Join(args, "here/kubelet"),
		"--config="+filepath.Join(g.data, "machine.yaml")+"\n", "--hostname-override="+g.name+"\n", "--node-ip="+g.Address+"\n")
	copied(filepath.Join(args, "kube-proxy"), filepath.Join(args, "here/kube-proxy"),
		"--hostname-override="+g.name+"\n--metrics-bind-address=127.0.0.1:10249\n--conntrack-max-per-core=0\n--conntrack-min=0\n")
	g.daemon("containerd", filepath.Join(out, "bin/containerd"), "--config", filepath.Join(common, "args/containerd.toml"))
	socket := filepath.Join(g.run, "containerd.sock")
	ctr := func(words ...string) (string, error) {
		return g.try(2*time.Minute, filepath.Join(out, "bin/ctr"), append([]string{"--address", socket, "--namespace", "k8s.io"}, words...)...)
	}
	g.eventually(time.Minute, func() error { _, err := ctr("version"); return err })
	images, _ := filepath.Glob(filepath.Join(out, "images/*.tar"))
	for _, f := range append(images, filepath.Join(out, "testimages/tools.tar")) {
		if _, err := ctr("images", "import", "--local", f); err != nil {
			g.t.Fatal(err)
		}
	}
	g.t.Cleanup(g.clear)
	g.daemon("kubelite", filepath.Join(out, "bin/kubelite"), "--start-control-plane=false",
		"--kubelet-args-file="+filepath.Join(args, "here/kubelet"), "--proxy-args-file="+filepath.Join(args, "here/kube-proxy"))
}

// cgroups makes the kubelet's cgroup, as the packaging of a node does.
func (g *guest) cgroups() {
	g.t.Helper()
	const script = `set -e; cd /sys/fs/cgroup
if [ -f cgroup.controllers ]; then
  mkdir -p ".$1"; for c in $(cat cgroup.controllers); do echo "+$c" > cgroup.subtree_control || true; done; exit
fi
for h in */; do
  [ -f "$h/cgroup.procs" ] || continue
  mkdir -p "$h$1"
  for f in cpuset.cpus cpuset.mems; do [ ! -f "$h$1/$f" ] || cat "$h$f" > "$h$1/$f"; done
done`
	g.machine.run("sh", "-c", script, "sh", g.cgroup)
	g.t.Cleanup(func() {
		_ = exec.Command("sh", "-c", `find /sys/fs/cgroup/*"$1" /sys/fs/cgroup"$1" -depth -type d -exec rmdir {} + 2>/dev/null`, "sh", g.cgroup).Run()
	})
}

// daemon starts a program that ends with the test.
func (g *guest) daemon(name, program string, args ...string) {
	g.t.Helper()
	cmd := g.Command(context.WithoutCancel(g.t.Context()), program, args...)
	cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		stop.Stop()
		if g.t.Failed() {
			g.t.Logf("%s of %s:\n%s", name, g.name, said.Bytes()[max(0, said.Len()-6000):])
		}
	})
}

// clear ends the pods of the machine and what they left.
func (g *guest) clear() {
	list := func(words ...string) []string {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(g.t.Context()), time.Minute)
		defer cancel()
		out, _ := g.Command(ctx, filepath.Join(g.Out, "bin/ctr"), append([]string{"--address", filepath.Join(g.run, "containerd.sock"), "--namespace", "k8s.io"}, words...)...).Output()
		return strings.Fields(string(out))
	}
	for _, id := range list("tasks", "list", "--quiet") {
		_ = list("tasks", "delete", "--force", id)
	}
	for _, id := range list("containers", "list", "--quiet") {
		_ = list("containers", "delete", id)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.t.Context()), time.Minute)
	defer cancel()
	_ = g.Command(ctx, "sh", "-c", `grep -o " $1/[^ ]*" /proc/self/mountinfo | sort -r | xargs -r umount -l`, "sh", filepath.Dir(g.data)).Run()
}

const hostPod = `
apiVersion: v1
kind: Pod
metadata: {name: on-guest}
spec:
  hostNetwork: true
  nodeName: guest-1
  terminationGracePeriodSeconds: 1
  containers: [{name: serve, image: "mk.test/tools:1.0.0", args: [serve]}]
`

// pod runs a pod on the guest: the cluster reaches its kubelet, and it the
// network of its machine.
func (g *guest) pod(server *machine) {
	g.t.Helper()
	server.apply(hostPod)
	server.kubectl("wait", "--for=condition=Ready", "pod/on-guest", "--timeout=240s")
	if out := server.kubectl("exec", "on-guest", "--", "/tools", "lookup", "localhost"); strings.TrimSpace(out) == "" {
		g.t.Error("a command in the pod says nothing")
	}
	server.eventually(30*time.Second, func() error {
		_, err := server.try(10*time.Second, "curl", "-fsS", "http://"+g.Address+":8080/")
		return err
	})
	server.kubectl("delete", "pod", "on-guest", "--wait=false")
}

// barred has the kubelet's identity try to be a node again, and kube-proxy's
// read what it read.
func (g *guest) barred(server *machine) {
	g.t.Helper()
	file := filepath.Join(g.data, "node.json")
	node := fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%q}}`, g.name)
	if err := os.WriteFile(file, []byte(node), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.eventually(30*time.Second, func() error {
		_, err := g.try(20*time.Second, filepath.Join(g.Out, "bin/kubelite"), "kubectl",
			"--kubeconfig", filepath.Join(g.data, "credentials/kubelet.config"), "create", "--raw", "/api/v1/nodes", "-f", file)
		if err == nil {
			server.kubectl("delete", "node", g.name)
			err = errors.New("a node that was removed is a node again")
		}
		if strings.Contains(err.Error(), "was removed from the cluster") {
			return nil
		}
		return err
	})
	if out, err := g.try(20*time.Second, filepath.Join(g.Out, "bin/kubelite"), "kubectl", "--kubeconfig",
		filepath.Join(g.data, "credentials/proxy.config"), "get", "--raw", "/api/v1/services"); err == nil || !strings.Contains(err.Error(), "was removed from the cluster") {
		g.t.Errorf("kube-proxy of a node that was removed: %s, %v", out, err)
	}
}

// guestCalls are the calls of MicroK8s' nodes to each other, with a token that
// the operator wrote.
func guestCalls(t *testing.T, server *machine, g *guest) {
	t.Helper()
	agent := server.Address + ":25000"
	const token = "callback-0123456789abcdef0123456789abcdef"
	for _, words := range [][]string{{"configure", agent, "kubelet", "--restart"}, {"images", agent, filepath.Join(server.Out, "testimages/tools.tar")}} {
		if _, err := g.client(words[0], append(words[1:], "--callback", token)...); err == nil || !strings.Contains(err.Error(), "Invalid token") {
			t.Errorf("%s without a token that is known: %v", words[0], err)
		}
	}
	server.run("sh", "-c", `umask 022; echo "$1" >> "$2"`, "sh", token, filepath.Join(server.Root, "credentials/callback-token.txt"))
	call := func(verb string, words ...string) string {
		out, err := g.client(verb, append(words, "--callback", token)...)
		if err != nil {
			t.Error(err)
		}
		return out
	}
	call("configure", agent, "kube-scheduler", "--update=--v=1")
	if out := server.run("mk", "args", "get", "kube-scheduler", "v"); strings.TrimSpace(out) != "1" {
		t.Errorf("--v of kube-scheduler is %q", out)
	}
	call("configure", agent, "kube-scheduler", "--remove=--v")
	call("configure", agent, "flanneld", "--restart")
	call("images", agent, filepath.Join(server.Out, "testimages/tools.tar"))
	if out := server.run("mk", "images", "list"); !strings.Contains(out, "mk.test/tools:1.0.0") {
		t.Errorf("images after the import:\n%s", out)
	}
	if _, err := g.client("configure", agent, "kube-apiserver", "--update=--authorization-mode=AlwaysAllow", "--callback", token); err == nil || !strings.Contains(err.Error(), fmt.Sprint(http.StatusInternalServerError)) {
		t.Errorf("an argument that is not on the list: %v", err)
	}
	own, err := os.ReadFile(filepath.Join(g.data, "credentials/callback-token.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.client("configure", agent, "flanneld", "--restart", "--callback", strings.TrimSpace(string(own))); err == nil || !strings.Contains(err.Error(), "Invalid token") {
		t.Errorf("the worker's own callback token: %v", err)
	}
}

// TestGuestWorker is guestWorker on a node of its own.
func TestGuestWorker(t *testing.T) {
	m := network(t, 9, 2)
	m[0].run("mk", "start", "--name", "n1")
	guestWorker(t, m[0], m[1])
}
