//go:build cluster

package cluster

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tests "mk8s.io/mk/tests/machine"
)

// network plugs machines into one switch.
func network(t *testing.T, number, machines int) []*machine {
	t.Helper()
	out, err := filepath.Abs("../../out")
	if err != nil {
		t.Fatal(err)
	}
	n, err := tests.NewNetwork(t.Context(), number)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close(t.Context()) }) // it outlasts the test's context
	var all []*machine
	for i := range machines {
		m, err := n.Machine(t.Context(), out, passable(t), i+1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close(t.Context()) })
		own := &machine{Machine: m, t: t}
		t.Cleanup(own.remove)
		all = append(all, own)
	}
	return all
}

// invite answers a connection string of a node.
func (m *machine) invite(flags ...string) string {
	m.t.Helper()
	out := m.run("mk", append([]string{"add-node", "-o", "short"}, flags...)...)
	words := strings.Fields(strings.SplitN(out, "\n", 2)[0])
	return words[len(words)-1]
}

// TestCluster grows one node to three control-plane nodes and two workers.
func TestCluster(t *testing.T) {
	m := network(t, 1, 5)
	m[0].run("mk", "start", "--name", "n1")
	for i, role := range []string{"", "", "--worker", "--worker"} {
		joiner := m[i+1]
		words := []string{"join", m[0].invite(), "--name", fmt.Sprintf("n%d", i+2)}
		if role != "" {
			words = append(words, role)
		}
		t.Log(joiner.run("mk", words...))
	}
	m[0].eventually(time.Minute, func() error {
		out := m[1].kubectl("get", "nodes", "--no-headers")
		if n := strings.Count(out, " Ready "); n != len(m) {
			return fmt.Errorf("%d nodes are Ready:\n%s", n, out)
		}
		return nil
	})
}
