// Package machine makes what a node takes for a machine of its own: a network
// namespace with one uplink and a mount namespace, in which programs run with
// their own root folder. The tests with real Kubernetes and the benchmarks
// start their nodes in it.
//
// Guaranteed: nothing outside the namespaces, the machine's and its router's,
// but their names below /run/netns; what an earlier run, killed on its way, has
// left is never in the way. Not guaranteed: that a node which was started is stopped; whoever
// starts one resets it before Close.
package machine

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Machine is one machine.
type Machine struct {
	Name    string // of the namespace
	Root    string // of the node
	Out     string // where mk's programs are
	Program string // mk; empty for the one in Out
	Address string

	mounts *os.File // its mount namespace, which this process keeps
}

// New makes the machine of that number, from 1 to 254; a number is in use once
// at a time. Its node's root folder is below dir. Without a route it reaches
// nothing but itself. On an error nothing is left.
func New(ctx context.Context, out, dir string, number int, route bool) (*Machine, error) {
	if _, err := os.Stat(filepath.Join(out, "bin", "mk")); err != nil {
		return nil, fmt.Errorf("the programs are needed: make build (%w)", err)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a machine needs root")
	}
	m := &Machine{
		Out: out, Root: filepath.Join(dir, "mk"), Name: fmt.Sprintf("%s-%d", unique("mkt"), number),
		Address: fmt.Sprintf("10.77.%d.2", number),
	}
	err := m.ownMounts()
	if err == nil {
		err = m.connect(ctx, number, route)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	return m, nil
}

// unique is a name that no other run uses, this machine's earlier ones
// included: process numbers come again.
func unique(prefix string) string {
	random := make([]byte, 4)
	rand.Read(random)
	return prefix + hex.EncodeToString(random)
}

// router is the namespace at the other end of the uplink.
func (m *Machine) router() string { return m.Name + "-up" }

// connect makes the namespace, its router and the uplink between them.
func (m *Machine) connect(ctx context.Context, number int, route bool) error {
	gateway := fmt.Sprintf("10.77.%d.1", number)
	for _, words := range []string{
		"netns add " + m.Name,
		"netns add " + m.router(),
		"-n " + m.router() + " link add up0 type veth peer name eth0 netns " + m.Name,
		"-n " + m.router() + " addr add " + gateway + "/24 dev up0",
		"-n " + m.router() + " link set up0 up",
		"-n " + m.Name + " link set lo up",
		"-n " + m.Name + " addr add " + m.Address + "/24 dev eth0",
		"-n " + m.Name + " link set eth0 up",
	} {
		if err := Host(ctx, "ip", strings.Fields(words)...); err != nil {
			return err
		}
	}
	if !route {
		return nil
	}
	return Host(ctx, "ip", "-n", m.Name, "route", "add", "default", "via", gateway)
}

// Close takes the namespaces away, even when ctx has ended.
func (m *Machine) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var errs []error
	if m.mounts != nil {
		errs = append(errs, m.mounts.Close())
	}
	for _, name := range []string{m.Name, m.router()} {
		if _, err := os.Lstat("/run/netns/" + name); err == nil {
			errs = append(errs, Host(ctx, "ip", "netns", "del", name))
		}
	}
	return errors.Join(errs...)
}

// Folder makes a folder for a node: plugins, as users of their own, pass
// through everything above theirs. Its path is short, as sockets want it.
func Folder() (string, error) {
	dir, err := os.MkdirTemp("", "mkt")
	if err != nil {
		return "", fmt.Errorf("make a folder for a node: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// Host runs a command outside every machine.
func Host(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// ID is what the node's names outside its folder are made of.
func (m *Machine) ID() string {
	sum := sha256.Sum256([]byte(m.Root))
	return hex.EncodeToString(sum[:4])
}

// Started reports whether the node of this machine exists.
func (m *Machine) Started() bool {
	_, err := os.Stat(filepath.Join(m.Root, "node.json"))
	return err == nil
}

// Command is a command on the machine; mk is the machine's. `ip netns exec`
// would hide the cgroups behind a new sysfs, so the namespaces are entered
// without it. The command runs in this process's folder.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if name == "mk" {
		name = filepath.Join(m.Out, "bin", "mk")
		if m.Program != "" {
			name = m.Program
		}
	}
	enter := []string{"--net=" + m.network(), fmt.Sprintf("--mount=/proc/%d/fd/%d", os.Getpid(), m.mounts.Fd())}
	if here, err := os.Getwd(); err == nil {
		enter = append(enter, "--wdns="+here)
	}
	enter = append(enter, name)
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = append(os.Environ(), "MK_ROOT="+m.Root, "KUBECONFIG="+filepath.Join(m.Root, "credentials/client.config"))
	return cmd
}

// Try runs a command on the machine and answers what it printed on standard
// output.
func (m *Machine) Try(ctx context.Context, timeout time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := m.Command(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// A program that lives on may hold the pipes.
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

// Logs are the ends of the services' logs, for whoever failed.
func (m *Machine) Logs() string { return Ends(filepath.Join(m.Root, "var/log/*.log")) }

// Ends are the ends of the files that match.
func Ends(pattern string) string {
	var b strings.Builder
	files, err := filepath.Glob(pattern)
	if err != nil {
		return err.Error()
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			fmt.Fprintln(&b, err)
		}
		fmt.Fprintf(&b, "== %s\n%s\n", filepath.Base(f), data[max(0, len(data)-4000):])
	}
	return b.String()
}
