//go:build cluster

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWorkersProxy runs a worker's proxy beside a real API server: with
// kube-proxy's rights it learns the API server's address through itself, and
// it costs nothing while nobody uses it. The node is one on which both
// strategies are installed, and the default one is active.
func TestWorkersProxy(t *testing.T) {
	m := newMachine(t, 7, true)
	m.run("mk", "start", "--name", "node-p")
	for name, text := range map[string]string{
		"args/apiserver-proxy":        "--listen=127.0.0.1:26443\n",
		"var/lib/apiserver-endpoints": "127.0.0.9:16443\n127.0.0.1:16443\n", // one that is not there
	} {
		if err := os.WriteFile(filepath.Join(m.Root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	proxy := m.Command(t.Context(), "mk", "apiserver-proxy")
	var log strings.Builder
	proxy.Stderr = &log
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = proxy.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	want := m.Address + ":16443\n"
	m.eventually(time.Minute, func() error {
		list, err := os.ReadFile(filepath.Join(m.Root, "var/lib/apiserver-endpoints"))
		if err == nil && string(list) != want {
			err = fmt.Errorf("the list is %q, not %q", list, want)
		}
		return err
	})
	out := m.kubectl("--server=https://127.0.0.1:26443", "get", "nodes", "-o", "name")
	if strings.TrimSpace(out) != "node/node-p" {
		t.Errorf("through the proxy: %q", out)
	}
	plugins := m.run("mk", "plugin", "list")
	for _, line := range strings.Split(plugins, "\n") {
		f := strings.Fields(line)
		if len(f) > 2 && strings.HasPrefix(f[0], "clustering/") && (f[2] == "yes") != (f[0] == "clustering/etcd") {
			t.Errorf("active is another strategy: %s", line)
		}
	}
	if list := m.run("mk", "node", "list"); !strings.Contains(list, "node-p") || !strings.Contains(list, "yes") {
		t.Errorf("mk node list: %s", list)
	}
	if _, err := m.try(time.Minute, "mk", "node", "list", "--pending"); err == nil || !strings.Contains(err.Error(), "nobody approves joins") {
		t.Errorf("mk node list --pending with clustering/etcd: %v", err)
	}
	m.run("mk", "plugin", "use", "clustering/approve")
	if list := m.run("mk", "node", "list", "--pending"); strings.Contains(list, "node-") {
		t.Errorf("somebody waits: %s", list)
	}
	invites(t, m)
	m.run("mk", "stop")
	m.run("mk", "start")
	savesWhatIsDue(t, m)
	m.kubectl("--server=https://127.0.0.1:26443", "get", "nodes")
	begun, err := cpuTicks(proxy.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	m.run("mk", "status")
	ended, err := cpuTicks(proxy.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ticks of CPU: %d until here, %d while nobody used it", begun, ended-begun)
}

// savesWhatIsDue changes how often snapshots are taken: the agent looks when it
// begins whether one is due.
func savesWhatIsDue(t *testing.T, m *machine) {
	t.Helper()
	m.run("mk", "settings", "set", "snapshot-interval", "1s")
	signal(t, m.daemon(), syscall.SIGKILL)
	m.run("mk", "start")
	m.eventually(time.Minute, func() error {
		out, err := m.try(20*time.Second, "mk", "datastore", "snapshot", "list")
		if err == nil && !strings.Contains(out, " schedule") {
			return served("no snapshot that was due: " + out)
		}
		return err
	})
	m.run("mk", "settings", "unset", "snapshot-interval")
}

// invites is what the words of a single node about others do and refuse: the
// last copy of the data does not leave; a token that a person chose is listed
// and revoked; invitations name the port on which the agent listens, and there
// are none where nobody reaches it.
func invites(t *testing.T, m *machine) {
	t.Helper()
	if _, err := m.try(time.Minute, "mk", "leave"); err == nil || !strings.Contains(err.Error(), "the last copy of the cluster's data") || !m.Started() {
		t.Errorf("the last node leaves: %v", err)
	}
	chosen := strings.Repeat("chosen-", 6)
	if out := m.run("mk", "add-node", "--token", chosen, "-o", "token"); out != chosen+"\n" {
		t.Errorf("the token that was chosen: %q", out)
	}
	id := m.goodTokens()[0].ID
	m.run("mk", "token", "revoke", id)
	if out := m.run("mk", "token", "list"); strings.Contains(out, id) {
		t.Errorf("a token that was revoked is listed:\n%s", out)
	}
	m.run("mk", "args", "set", "cluster-agent", "bind=0.0.0.0:25017")
	if s := m.invite(); !strings.HasPrefix(s, m.Address+":25017/") {
		t.Errorf("the agent listens on port 25017, the invitation says %s", s)
	}
	m.eventually(30*time.Second, func() error {
		_, err := m.try(10*time.Second, "curl", "-sfk", "https://"+m.Address+":25017/health")
		return err
	})
	m.run("mk", "args", "set", "cluster-agent", "bind=127.0.0.1:25000")
	if _, err := m.try(time.Minute, "mk", "add-node"); err == nil || !strings.Contains(err.Error(), "listens on 127.0.0.1 only") || !strings.Contains(err.Error(), "bind=0.0.0.0:25000") {
		t.Errorf("an agent that nobody reaches invites: %v", err)
	}
	m.run("mk", "args", "set", "cluster-agent", "bind=0.0.0.0:25000")
}

// cpuTicks is what a process has used of a CPU, in hundredths of a second.
func cpuTicks(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	var state string
	var skip, user, system int
	if _, err := fmt.Sscan(rest, &state, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system); err != nil {
		return 0, fmt.Errorf("read the times of process %d: %w", pid, err)
	}
	return user + system, nil
}
