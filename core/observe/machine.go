package observe

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/neighbour"
	"mk8s.io/mk/core/netinfo"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/pki"
)

func clockFindings(_ context.Context, n *operation.Node) []Finding {
	var pems [][]byte
	for _, p := range pki.Profiles() {
		if p.CertFile() == "" {
			continue
		}
		if data, err := n.Root.ReadFile(p.CertFile()); err == nil {
			pems = append(pems, data)
		}
	}
	if err := pki.CheckClock(n.Now(), pki.ClockFloor(n.Built, pki.NewestNotBefore(pems...))); err != nil {
		return []Finding{{Area: "clock", Serious: true, What: err.Error(), Why: "certificates made now would not be valid", Next: "timedatectl set-ntp true"}}
	}
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err == nil && t.Status&unix.STA_UNSYNC != 0 {
		return []Finding{{Area: "clock", What: "the clock follows no time server", Next: "timedatectl set-ntp true"}}
	}
	return nil
}

func networkFindings(ctx context.Context, n *operation.Node) []Finding {
	var out []Finding
	if forward := kernelSays("net/ipv4/ip_forward"); forward == "0" {
		out = append(out, Finding{Area: "network", Serious: true, What: "packets of pods are not forwarded", Next: "sysctl -w net.ipv4.ip_forward=1"})
	}
	if state, err := netinfo.Read(ctx); err != nil {
		out = append(out, Finding{Area: "network", What: err.Error()})
	} else if len(state.Routes) == 0 {
		out = append(out, Finding{Area: "network", What: "there is no default route", Why: "pods reach nothing outside, and images cannot be pulled"})
	}
	if drops(ctx) {
		out = append(out, Finding{Area: "network", What: "the firewall drops what is forwarded by default (FORWARD DROP)", Why: "pods may not reach others",
			Next: "iptables -P FORWARD ACCEPT"})
	}
	for _, f := range neighbour.Kubernetes(n.Root.Dir(), n.Programs.Dir()) {
		out = append(out, Finding{Area: "network", Serious: len(f.Ports) > 0, What: "another Kubernetes is on this machine: " + f.String(),
			Why: fmt.Sprintf("%s listens on %v", f.Process, f.Ports), Next: f.Stop})
	}
	return out
}

// drops says whether the kernel drops forwarded packets that no rule names.
// Only iptables can tell; without it the answer is no.
func drops(ctx context.Context) bool {
	out := rules(ctx)
	return strings.Contains(string(out), ":FORWARD DROP")
}

// rules are the firewall's, or nothing where iptables-save is not there or
// does not answer.
func rules(ctx context.Context) []byte {
	path, err := exec.LookPath("iptables-save")
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	return out
}

func kernelFindings(context.Context, *operation.Node) []Finding {
	var out []Finding
	if data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		have := strings.Fields(string(data))
		for _, want := range []string{"cpu", "memory", "pids"} {
			if !slices.Contains(have, want) {
				out = append(out, Finding{Area: "kernel", Serious: true, What: "the cgroup controller " + want + " is not there"})
			}
		}
	}
	if data, err := os.ReadFile("/proc/filesystems"); err == nil && !slices.Contains(strings.Fields(string(data)), "overlay") {
		out = append(out, Finding{Area: "kernel", What: "the overlay file system is not loaded", Next: "modprobe overlay"})
	}
	if v := kernelSays("net/bridge/bridge-nf-call-iptables"); v != "1" {
		out = append(out, Finding{Area: "kernel", What: "packets on bridges do not pass the firewall (br_netfilter)",
			Why: "a pod may not reach a service whose pod is on the same node", Next: "modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1"})
	}
	return out
}

// kernelSays is a setting below /proc/sys; empty where there is none.
func kernelSays(name string) string {
	data, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
