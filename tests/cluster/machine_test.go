//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machine is a network namespace with one uplink: what a node takes for a
// machine of its own.
type machine struct {
	t       *testing.T
	name    string // of the namespace
	root    string // of the node
	out     string // where mk's programs are
	mk      string // the program; empty for the one in out
	address string
}

// newMachine makes a machine. Without a route it reaches nothing but itself.
func newMachine(t *testing.T, number int, route bool) *machine {
	t.Helper()
	out, err := filepath.Abs("../../out")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(out, "bin", "mk")); err != nil {
		t.Fatalf("these tests need the programs: make build (%v)", err)
	}
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root")
	}
	m := &machine{
		t: t, out: out, root: filepath.Join(passable(t), "mk"), name: fmt.Sprintf("mkt%d-%d", os.Getpid(), number),
		address: fmt.Sprintf("10.77.%d.2", number),
	}
	uplink := fmt.Sprintf("mkt%d", number)
	m.host("ip", "netns", "add", m.name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", m.name).Run() })
	m.host("ip", "link", "add", uplink, "type", "veth", "peer", "name", "eth0", "netns", m.name)
	m.host("ip", "addr", "add", fmt.Sprintf("10.77.%d.1/24", number), "dev", uplink)
	m.host("ip", "link", "set", uplink, "up")
	m.run("ip", "link", "set", "lo", "up")
	m.run("ip", "addr", "add", m.address+"/24", "dev", "eth0")
	m.run("ip", "link", "set", "eth0", "up")
	if route {
		m.run("ip", "route", "add", "default", "via", fmt.Sprintf("10.77.%d.1", number))
	}
	t.Cleanup(m.remove)
	return m
}

// passable is a folder for a node: plugins, as users of their own, pass through
// everything above theirs. Its path is short, as sockets want it.
func passable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mkt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// remove takes the node away, whatever the test left it in.
func (m *machine) remove() {
	if m.t.Failed() {
		m.t.Log(m.logs())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if _, err := os.Stat(filepath.Join(m.root, "node.json")); err != nil {
		return
	}
	if out, err := m.command(ctx, "mk", "reset", "--all", "--yes").CombinedOutput(); err != nil {
		m.t.Logf("mk reset: %v\n%s", err, out)
	}
}

// logs are the ends of the services' logs, for a test that failed.
func (m *machine) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(m.root, "var/log/*.log"))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "== %s\n%s\n", filepath.Base(f), data[max(0, len(data)-4000):])
	}
	return b.String()
}

// id is what the node's names outside its folder are made of.
func (m *machine) id() string {
	sum := sha256.Sum256([]byte(m.root))
	return hex.EncodeToString(sum[:4])
}

// host runs a command outside the machine.
func (m *machine) host(name string, args ...string) {
	m.t.Helper()
	if out, err := exec.CommandContext(m.t.Context(), name, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// command is a command on the machine. `ip netns exec` would hide the cgroups
// behind a new sysfs, so the namespace is entered without it.
func (m *machine) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if name == "mk" {
		name = filepath.Join(m.out, "bin", "mk")
		if m.mk != "" {
			name = m.mk
		}
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + m.name, name}, args...)...)
	cmd.Env = append(os.Environ(), "MK_ROOT="+m.root, "KUBECONFIG="+filepath.Join(m.root, "credentials/client.config"))
	return cmd
}

// try runs a command on the machine and answers its output.
func (m *machine) try(timeout time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), timeout)
	defer cancel()
	cmd := m.command(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// A program that lives on may hold the pipes.
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

// run runs a command on the machine that must succeed.
func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.try(5*time.Minute, name, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// kubectl runs mk kubectl.
func (m *machine) kubectl(args ...string) string {
	m.t.Helper()
	return m.run("mk", append([]string{"kubectl"}, args...)...)
}

// apply applies a manifest.
func (m *machine) apply(manifest string) {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.kubectl("apply", "-f", file)
}

// eventually waits until f succeeds.
func (m *machine) eventually(timeout time.Duration, f func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), timeout)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			m.t.Fatalf("not within %s: %v", timeout, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
