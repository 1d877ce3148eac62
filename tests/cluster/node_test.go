//go:build cluster

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	tests "mk8s.io/mk/tests/machine"
)

const workload = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: mk.test/tools:1.0.0
          args: [serve]
          ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: client, image: mk.test/tools:1.0.0, args: [sleep, 1h]}
`

// TestNode is the life of one node: it is started, runs pods, is stopped and
// started again, and is taken away.
func TestNode(t *testing.T) {
	m := newMachine(t, 1, true)
	m.run("mk", "start", "--name", "node-a")
	m.run("mk", "enable", "dns")
	m.run("mk", "images", "import", filepath.Join(m.Out, "testimages/tools.tar"))
	m.apply(workload)
	m.kubectl("rollout", "status", "deployment/web", "--timeout=240s")
	m.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=240s")

	t.Run("pods reach pods by DNS name", func(t *testing.T) { dns(t, m) })
	t.Run("logs, exec and port-forward", func(t *testing.T) { streams(t, m) })
	t.Run("a second start is quick", func(t *testing.T) {
		began := time.Now()
		m.run("mk", "start")
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("mk start on a running node took %s", took)
		}
	})
	before := podIDs(m)
	m.run("mk", "stop")
	t.Run("stop leaves nothing behind", func(t *testing.T) { nothingLeft(t, m) })
	m.run("mk", "start")
	t.Run("the same pods come back", func(t *testing.T) {
		if after := podIDs(m); after != before {
			t.Errorf("pods before the stop:\n%s\nafter the start:\n%s", before, after)
		}
		m.kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=240s")
		m.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=240s")
		dns(t, m)
	})
	t.Run("a snapshot takes it back in time", func(t *testing.T) { backInTime(t, m) })
	t.Run("a snapshot alone brings it back on an empty machine", func(t *testing.T) { emptyMachine(t, m) })
}

// backInTime restores the datastore of a node that runs, and then the node on an
// empty machine, from a snapshot as they are taken every 12 hours: without keys.
func backInTime(t *testing.T, m *machine) {
	t.Helper()
	saved := filepath.Join(passable(t), "saved")
	m.run("mk", "args", "set", "kubelet", "max-pods=77")
	m.kubectl("create", "configmap", "kept", "--from-literal=a=1")
	m.run("mk", "datastore", "snapshot", "save", "--to", saved)
	m.kubectl("delete", "configmap", "kept")
	m.kubectl("create", "configmap", "later")
	authority := certificateOf(m.run("mk", "config"))
	then := func(how string) {
		t.Helper()
		m.kubectl("get", "configmap", "kept")
		if out, err := m.try(time.Minute, "mk", "kubectl", "get", "configmap", "later"); err == nil {
			t.Errorf("%s: there is what was made later: %s", how, out)
		}
		if out := m.run("mk", "args", "get", "kubelet", "max-pods"); strings.TrimSpace(out) != "77" {
			t.Errorf("%s: max-pods is %q", how, out)
		}
	}
	if _, err := m.try(time.Minute, "mk", "datastore", "snapshot", "restore", "--yes", "/no/such/file"); err == nil {
		t.Error("a file that is not there is restored")
	}
	m.kubectl("get", "configmap", "later")
	m.run("mk", "datastore", "snapshot", "restore", "--yes", saved)
	then("in place")
	if certificateOf(m.run("mk", "config")) != authority {
		t.Error("in place, and the authority is another")
	}
	if why := snapshotsOf(m); !slices.Contains(why, "restore") {
		t.Errorf("what was there before is not kept: %q", why)
	}
	m.kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=240s")
	dns(t, m)
	m.run("mk", "reset", "--all", "--yes")
	m.run("mk", "datastore", "snapshot", "restore", saved)
	then("on an empty machine")
	if certificateOf(m.run("mk", "config")) == authority {
		t.Error("without keys, and the authority is the same")
	}
}

// emptyMachine takes everything of a node away but one file, and has the node
// back from it: the same objects, the same pods, the same authorities.
func emptyMachine(t *testing.T, m *machine) {
	t.Helper()
	kubeconfig, pods := m.run("mk", "config"), podIDs(m)
	// Saved when the node was removed, as another node's snapshot may be of a node
	// that came back since.
	m.kubectl("create", "configmap", "removed-nodes", "--namespace", "mk-system", "--from-literal=node-a="+time.Now().UTC().Format(time.RFC3339))
	saved, identity := savedWithKeys(t, m)
	if info, err := os.Stat(saved); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the snapshot: %v, %v", info, err)
	}
	for _, wrong := range [][]string{{saved}, {"--identity", saved, saved}, {"/no/such/file"}} {
		if out, err := m.try(time.Minute, "mk", append([]string{"datastore", "snapshot", "verify"}, wrong...)...); err == nil {
			t.Errorf("verify %v: %s", wrong, out)
		}
	}
	m.run("mk", "datastore", "snapshot", "verify", "--identity", identity, saved)
	m.run("mk", "reset", "--all", "--yes")
	began := time.Now()
	m.run("mk", "datastore", "snapshot", "restore", "--identity", identity, saved)
	t.Logf("restored in %s", time.Since(began).Round(time.Second))
	if now := podIDs(m); now != pods {
		t.Errorf("pods before:\n%s\nafter:\n%s", pods, now)
	}
	if list := m.kubectl("get", "configmap", "removed-nodes", "--namespace", "mk-system", "-o", "jsonpath={.data}{.binaryData}"); strings.Contains(list, "node-a") {
		t.Errorf("the restored node is among those that were removed: %s", list)
	}
	if now := m.run("mk", "config"); certificateOf(now) != certificateOf(kubeconfig) {
		t.Error("the authority is another")
	}
	m.run("mk", "images", "import", filepath.Join(m.Out, "testimages/tools.tar"))
	m.kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=240s")
	m.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=240s")
	dns(t, m)
}

// savedWithKeys is a snapshot of all that a node holds, and the file with the
// key that opens it.
func savedWithKeys(t *testing.T, m *machine) (saved, identity string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := passable(t)
	saved, identity = filepath.Join(dir, "saved"), filepath.Join(dir, "identity")
	if err := os.WriteFile(identity, []byte(id.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	m.run("mk", "datastore", "snapshot", "save", "--with-keys", "--recipient", id.Recipient().String(), "--to", saved)
	return saved, identity
}

// certificateOf is the authority that a kubeconfig trusts.
func certificateOf(kubeconfig string) string {
	_, rest, _ := strings.Cut(kubeconfig, "certificate-authority-data:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// dns has both pods answer a third one by the service's name.
func dns(t *testing.T, m *machine) {
	t.Helper()
	seen := map[string]bool{}
	m.eventually(2*time.Minute, func() error {
		out, err := m.try(20*time.Second, "mk", "kubectl", "exec", "client", "--", "/tools", "get", "http://web.default.svc.cluster.local/")
		if err != nil {
			return err
		}
		seen[strings.TrimSpace(out)] = true
		if len(seen) < 2 {
			return fmt.Errorf("answers so far: %v", seen)
		}
		return nil
	})
}

func streams(t *testing.T, m *machine) {
	t.Helper()
	if out := m.kubectl("logs", "-l", "app=web", "--tail=5"); strings.TrimSpace(out) == "" {
		t.Error("kubectl logs: no line")
	}
	if out := m.kubectl("exec", "client", "--", "/tools", "lookup", "kubernetes.default.svc.cluster.local"); !strings.Contains(out, "10.152.183.1") {
		t.Errorf("lookup of kubernetes: %q", out)
	}
	ctx := t.Context()
	cmd := m.Command(ctx, "mk", "kubectl", "port-forward", "service/web", "18080:80")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	m.eventually(30*time.Second, func() error {
		_, err := m.try(5*time.Second, "curl", "-fsS", "http://127.0.0.1:18080/")
		return err
	})
}

func podIDs(m *machine) string {
	return m.kubectl("get", "pods", "-A", "--sort-by=.metadata.uid",
		"-o", `jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.metadata.uid}{"\n"}{end}`)
}

// nothingLeft looks for processes, mounts, interfaces and cgroups of the node.
func nothingLeft(t *testing.T, m *machine) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(cmdline), m.Root) {
			t.Errorf("process %s is left: %s", e.Name(), strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	for line := range strings.Lines(m.run("cat", "/proc/self/mountinfo")) {
		if strings.Contains(line, m.Root) || strings.Contains(line, "/run/mk/"+m.ID()) {
			t.Errorf("mount is left: %s", line)
		}
	}
	links := m.run("ip", "-o", "link")
	for line := range strings.Lines(links) {
		if !strings.Contains(line, ": lo:") && !strings.Contains(line, "eth0") {
			t.Errorf("interface is left: %s", line)
		}
	}
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/mk/" + m.ID())
	for _, c := range cgroups {
		t.Errorf("cgroup is left: %s", c)
	}
}

// asNew is what the machine is like, on which no packets pass yet.
func (m *machine) asNew() tests.State {
	m.t.Helper()
	err := m.AsNew(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return m.look()
}

func (m *machine) look() tests.State {
	m.t.Helper()
	state, err := m.Look(m.t.Context(), "/etc", "/opt", "/run", "/usr/local", "/var/lib", "/var/log")
	if err != nil {
		m.t.Fatal(err)
	}
	return state
}

// likeBefore compares the machine with what it was like.
func likeBefore(t *testing.T, m *machine, before tests.State) {
	t.Helper()
	for _, change := range m.look().Since(before) {
		t.Errorf("the machine is not like before: %s", change)
	}
}
