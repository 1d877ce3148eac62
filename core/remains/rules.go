package remains

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// clearRules removes the rules that kube-proxy, the CNI plugins, flannel and
// the kubelet made. Rules of others stay, in their order.
func clearRules(ctx context.Context) error {
	for _, family := range []string{"iptables", "ip6tables"} {
		save, err := exec.LookPath(family + "-save")
		if err != nil {
			continue // no packet filter, no rules
		}
		rules, err := exec.CommandContext(ctx, save).Output()
		if err != nil {
			continue // this family is not there
		}
		kept := withoutOurs(rules)
		if bytes.Equal(kept, rules) {
			continue
		}
		cmd := exec.CommandContext(ctx, family+"-restore")
		cmd.Stdin = bytes.NewReader(kept)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("remove the rules of pods from %s: %w: %s", family, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// ours tells the chains of Kubernetes, the CNI plugins and flannel.
func ours(chain string) bool {
	for _, prefix := range []string{"KUBE-", "CNI-", "FLANNEL-"} {
		if strings.HasPrefix(chain, prefix) {
			return true
		}
	}
	return false
}

// withoutOurs drops our chains, what is in them, and what leads to them.
func withoutOurs(rules []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(rules) {
		if !isOurs(strings.Fields(string(line))) {
			out.Write(line)
		}
	}
	return out.Bytes()
}

func isOurs(fields []string) bool {
	if len(fields) == 0 {
		return false
	}
	if name, ok := strings.CutPrefix(fields[0], ":"); ok {
		return ours(name)
	}
	if fields[0] != "-A" || len(fields) < 2 {
		return false
	}
	if ours(fields[1]) {
		return true
	}
	for i, f := range fields[:len(fields)-1] {
		if (f == "-j" || f == "-g") && ours(fields[i+1]) {
			return true
		}
	}
	return false
}
