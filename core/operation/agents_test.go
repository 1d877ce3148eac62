package operation

import (
	"errors"
	"slices"
	"testing"

	"mk8s.io/mk/core/apiproxy"
	"mk8s.io/mk/core/node"
)

// A worker asks also where a control-plane node was seen last, and nobody who
// is of the control plane no more.
func TestAgentsThatMoved(t *testing.T) {
	t.Parallel()
	root, err := node.Create(t.TempDir()+"/mk", node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	n := &Node{Root: root, Record: &node.Record{Network: node.DefaultNetwork()}}
	write := func(name, content string) error { return root.WriteFile(name, []byte(content), root.Public()) }
	err = errors.Join(root.MkdirAll("var/lib", root.Passage()),
		write(AgentsFile, `["10.0.0.1:25000"]`), write(apiproxy.ListFile, "10.0.0.2:16443\n"),
		write(PeersFile, `["10.0.0.1:25001", "10.0.0.2:25002", "10.0.0.3:25003"]`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"10.0.0.1:25000", "10.0.0.2:25000", "10.0.0.1:25001", "10.0.0.2:25002"}
	if got, err := n.Agents(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if err := write(PeersFile, "{"); err != nil {
		t.Fatal(err)
	}
	if got, err := n.Agents(); err != nil || !slices.Equal(got, want[:2]) {
		t.Errorf("a damaged file of peers: %q, %v", got, err)
	}
}
