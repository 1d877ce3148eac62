//go:build cluster

package cluster

import (
	"strings"
	"testing"
	"time"
)

// wanted has one argument set on every node: one that was stopped has it when
// it is back, one that is made otherwise is shown, and healed by the next wish.
func wanted(t *testing.T, m []*machine) {
	server, off := m[0], m[len(m)-1]
	capacity := func(want string) {
		server.eventually(time.Minute, func() error {
			out, err := server.try(20*time.Second, "mk", "kubectl", "get", "nodes", "-o", "jsonpath={.items[*].status.capacity.pods}")
			if err == nil && strings.TrimSpace(out) != strings.TrimSpace(strings.Repeat(want+" ", len(m))) {
				return errText("pods of nodes: " + out)
			}
			return err
		})
	}
	off.run("mk", "stop")
	out, err := server.try(3*time.Minute, "mk", "args", "set", "kubelet", "max-pods=111", "--all-nodes", "--timeout", "60s")
	if err == nil || !strings.Contains(err.Error(), "exit status 5") || strings.Count(out, "  done\n") != len(m)-1 || !strings.Contains(out, "n5  not done") {
		t.Errorf("with a node that is stopped: %v\n%s", err, out)
	}
	off.run("mk", "start")
	capacity("111")
	if _, err := m[1].try(time.Minute, "mk", "args", "set", "kubelet", "max-pods=50"); err == nil || !strings.Contains(err.Error(), "the cluster wants") {
		t.Errorf("what would not last: %v", err)
	}
	m[1].run("mk", "args", "set", "kubelet", "max-pods=50", "--local")
	for _, words := range [][]string{{"node"}, {"status"}} {
		on := server
		if words[0] == "status" {
			on = m[1]
		}
		on.eventually(time.Minute, func() error { // the node says so when its API server is back
			if out := on.run("mk", words...); !strings.Contains(out, "kubelet --max-pods is 50, the cluster wants 111 (--local)") {
				return errText("mk " + words[0] + " shows no drift:\n" + out)
			}
			return nil
		})
	}
	server.run("mk", "args", "set", "kubelet", "max-pods=112", "--all-nodes")
	capacity("112")
	if out := server.run("mk", "args", "list", "kubelet", "--all-nodes"); strings.Count(out, "--max-pods=112") != len(m) {
		t.Errorf("the argument of every node:\n%s", out)
	}
}

// errText is an error that says something.
type errText string

// Error is what it says.
func (e errText) Error() string { return string(e) }
