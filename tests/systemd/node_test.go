//go:build systemd

package systemd

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/tests/machine"
)

// node is a machine that mk is installed on.
type node struct {
	t    *testing.T
	m    *Machine
	root string
	net  string

	machine *machine.Machine // whose network it has
}

const pod = `
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: client, image: mk.test/tools:1.0.0, args: [sleep, 1h]}
`

// TestNodeUnderSystemd is the life of a node on a machine that systemd runs:
// the archive is installed, the node started, a program of it and then the
// whole machine killed, and all of it is taken away again.
func TestNodeUnderSystemd(t *testing.T) {
	n := newNode(t)
	if err := n.machine.AsNew(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := n.look()
	n.run("/root/archive/install")
	n.run("mk", "settings", "set", "proxy.https", "http://u:hush-hush@192.0.2.1:3128")
	n.run("mk", "start", "--name", "node-s")
	t.Run("units", func(t *testing.T) { units(t, n) })
	n.run("mk", "images", "import", "/root/tools.tar")
	n.run("mk", "kubectl", "apply", "-f", "/root/pod.yaml")
	n.run("mk", "kubectl", "wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
	uid := n.run("mk", "kubectl", "get", "pod", "client", "-o", "jsonpath={.metadata.uid}")

	grown := grow(t, n)
	t.Run("a killed program comes back, its pods stay", func(t *testing.T) { killed(t, n) })
	t.Run("logs are rotated", func(t *testing.T) {
		n.eventually(30*time.Second, func() error {
			_, err := os.Stat(grown + ".1")
			return err
		})
	})
	t.Run("a machine that lost its power comes back by itself", func(t *testing.T) {
		n.m.Kill()
		n.m = boot(n.t, n.root, n.net) // it outlives this part
		n.run("mk", "status", "--wait-ready", "--timeout", "90s")
		n.run("mk", "kubectl", "wait", "--for=condition=Ready", "pod/client", "--timeout=90s")
		if now := n.run("mk", "kubectl", "get", "pod", "client", "-o", "jsonpath={.metadata.uid}"); now != uid {
			t.Errorf("pod %s was %s", now, uid)
		}
		n.run("mk", "refresh-certs", "front-proxy-client") // plugins are started from a folder in /run
	})
	atBoot := func(t *testing.T, want string) {
		t.Helper()
		if out, _ := n.try(10*time.Second, "systemctl", "is-enabled", "mk-kubelite"); strings.TrimSpace(out) != want {
			t.Errorf("kubelite is %s, want %s", out, want)
		}
	}
	t.Run("stop leaves nothing", func(t *testing.T) {
		n.run("mk", "stop")
		nothingLeft(t, n)
		atBoot(t, "disabled")
	})
	t.Run("uninstall removes the units", func(t *testing.T) {
		n.run("mk", "start")
		atBoot(t, "enabled")
		n.run("mk", "start", "--disable-at-boot")
		atBoot(t, "disabled")
		n.run("mk", "uninstall", "--yes")
		nothingLeft(t, n)
		for _, pattern := range []string{"etc/systemd/system/mk-*", "etc/systemd/system/*/mk-*", "var/lib/mk", "usr/local/bin/mk", "usr/local/lib/mk/*"} {
			if left, _ := filepath.Glob(filepath.Join(n.root, pattern)); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		}
		for _, change := range n.look().Since(before) {
			t.Errorf("the machine is not like before: %s", change)
		}
	})
}

// newNode boots a machine with a network, on which the archive lies unpacked.
func newNode(t *testing.T) *node {
	t.Helper()
	root := os.Getenv("MK_SYSTEMD_ROOT")
	if root == "" {
		t.Fatal("MK_SYSTEMD_ROOT does not name a folder made by make-root.sh")
	}
	out, err := filepath.Abs("../../out")
	if err != nil {
		t.Fatal(err)
	}
	archives, err := filepath.Glob(filepath.Join(out, "mk-*-linux-amd64.tar.gz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("one archive is needed: make dist (found %v, %v)", archives, err)
	}
	n := &node{t: t, root: root}
	// What an earlier test, killed on its way, has left.
	n.host("sh", "-c", "cd "+root+" && rm -rf --one-file-system var/lib/mk usr/local/lib/mk usr/local/bin/mk root/archive etc/systemd/system/mk-* etc/systemd/system/*/mk-*")
	n.host("mkdir", "-p", filepath.Join(root, "root/archive"))
	n.host("tar", "-C", filepath.Join(root, "root/archive"), "--strip-components=1", "-xzf", archives[0])
	n.host("cp", filepath.Join(out, "testimages/tools.tar"), filepath.Join(root, "root/tools.tar"))
	if err := os.WriteFile(filepath.Join(root, "root/pod.yaml"), []byte(pod), 0o600); err != nil {
		t.Fatal(err)
	}
	net, err := machine.New(t.Context(), out, t.TempDir(), 9, true)
	if err != nil {
		t.Fatal(err)
	}
	n.net, n.machine = net.Name, net
	n.m = boot(t, root, n.net)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(n.logs())
		}
		n.m.Kill()
		if err := net.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) host(name string, args ...string) {
	n.t.Helper()
	if out, err := exec.CommandContext(n.t.Context(), name, args...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// try runs a command inside.
func (n *node) try(timeout time.Duration, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), timeout)
	defer cancel()
	if argv[0] == "mk" {
		argv = append([]string{"/usr/local/bin/mk"}, argv[1:]...)
	}
	var out bytes.Buffer
	if err := n.m.Run(ctx, &out, argv...); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out.String())
	}
	return out.String(), nil
}

func (n *node) run(argv ...string) string {
	n.t.Helper()
	out, err := n.try(2*time.Minute, argv...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

func (n *node) eventually(timeout time.Duration, f func() error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), timeout)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			n.t.Fatalf("not within %s: %v", timeout, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// logs are the ends of the services' logs, for a test that failed.
func (n *node) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(n.root, "var/lib/mk/var/log/*.log"))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "== %s\n%s\n", filepath.Base(f), data[max(0, len(data)-3000):])
	}
	return b.String()
}

func (n *node) property(unit, name string) string {
	return strings.TrimSpace(n.run("systemctl", "show", "--value", "--property="+name, unit))
}

// units looks at what systemd knows of the services.
func units(t *testing.T, n *node) {
	t.Helper()
	after := map[string][]string{
		"mk-containerd.service": nil, "mk-etcd.service": nil, "mk-kubelite.service": {"mk-containerd.service", "mk-etcd.service"},
		"mk-flanneld.service": {"mk-kubelite.service"}, "mk-cluster-agent.service": {"mk-kubelite.service"},
	}
	for unit, others := range after {
		for name, want := range map[string]string{"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "NRestarts": "0"} {
			if got := n.property(unit, name); got != want {
				t.Errorf("%s: %s is %s instead of %s", unit, name, got, want)
			}
		}
		order := strings.Fields(n.property(unit, "After"))
		for _, o := range others {
			if !strings.Contains(" "+strings.Join(order, " ")+" ", " "+o+" ") {
				t.Errorf("%s is not after %s: %v", unit, o, order)
			}
		}
	}
	if out := n.run("systemctl", "list-units", "--state=active", "--plain", "--no-legend", "mk-*"); strings.Count(out, "\n") != len(after) {
		t.Errorf("units:\n%s", out)
	}
	// The proxy's password reaches containerd, and nobody else.
	pid := n.property("mk-containerd.service", "MainPID")
	if out := n.run("sh", "-c", "tr '\\0' '\\n' </proc/"+pid+"/environ"); !strings.Contains(out, "HTTPS_PROXY=http://u:hush-hush@192.0.2.1:3128\n") {
		t.Errorf("containerd's environment:\n%s", out)
	}
	if out := n.run("env", "-C", "/", "sh", "-c", "systemctl show mk-containerd | grep hush-hush; find /etc /run /var/lib/mk /usr/local -xdev -type f -perm /044 -exec grep -l hush-hush {} +; true"); out != "" {
		t.Errorf("everyone reads the proxy's password in:\n%s", out)
	}
}

// grow makes a log larger than may be.
func grow(t *testing.T, n *node) string {
	t.Helper()
	name := filepath.Join(n.root, "var/lib/mk/var/log/flanneld.log")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(bytes.Repeat([]byte("a line of a log\n"), 11<<20/16)); err != nil {
		t.Fatal(err)
	}
	return name
}

// killed kills the program that is most of Kubernetes.
func killed(t *testing.T, n *node) {
	t.Helper()
	before := n.property("mk-kubelite", "MainPID")
	n.run("kill", "-9", before)
	n.eventually(20*time.Second, func() error {
		if now := n.property("mk-kubelite", "MainPID"); now == "0" || now == before {
			return fmt.Errorf("its process is %s", now)
		}
		return nil
	})
	n.run("mk", "status", "--wait-ready", "--timeout", "60s")
	if got := n.property("mk-kubelite", "NRestarts"); got != "1" {
		t.Errorf("started again %s times", got)
	}
	if got := n.run("mk", "kubectl", "get", "pod", "client", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "0" {
		t.Errorf("the pod was restarted %s times", got)
	}
}

// look is what the machine is like. What systemd itself writes is no change.
func (n *node) look() machine.State {
	n.t.Helper()
	var folders []string
	for _, dir := range []string{"etc", "opt", "usr/local", "var/lib"} {
		folders = append(folders, filepath.Join(n.root, dir))
	}
	state, err := n.machine.Look(n.t.Context(), folders...)
	if err != nil {
		n.t.Fatal(err)
	}
	maps.DeleteFunc(state, func(k, _ string) bool { return strings.HasPrefix(k, filepath.Join(n.root, "var/lib/systemd")) })
	return state
}

// nothingLeft looks for processes, units, mounts, interfaces and cgroups.
func nothingLeft(t *testing.T, n *node) {
	t.Helper()
	for line := range strings.Lines(n.run("ps", "-eo", "args", "--no-headers")) {
		for _, word := range []string{"mk", "kubelite", "containerd", "etcd", "flanneld", "/pause", "/tools"} {
			if first, _, _ := strings.Cut(strings.TrimSpace(line), " "); filepath.Base(first) == filepath.Base(word) || strings.Contains(line, "/var/lib/mk") {
				t.Errorf("a process is left: %s", line)
			}
		}
	}
	for line := range strings.Lines(n.run("systemctl", "list-units", "--state=active", "--plain", "--no-legend", "mk-*", "kubepods*", "cri-*")) {
		t.Errorf("a unit is left: %s", line)
	}
	for line := range strings.Lines(n.run("cat", "/proc/mounts")) {
		if strings.Contains(line, "/var/lib/mk") || strings.Contains(line, "/run/mk") || strings.Contains(line, "/run/netns") {
			t.Errorf("a mount is left: %s", line)
		}
	}
	for line := range strings.Lines(n.run("ip", "-o", "link")) {
		if !strings.Contains(line, ": lo:") && !strings.Contains(line, "eth0") {
			t.Errorf("an interface is left: %s", line)
		}
	}
	if out, _ := n.try(20*time.Second, "find", "/sys/fs/cgroup", "-name", "*kubepods*"); strings.TrimSpace(out) != "" {
		t.Errorf("cgroups are left:\n%s", out)
	}
}
