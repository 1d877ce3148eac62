package defaults_test

import (
	"slices"
	"testing"

	"mk8s.io/mk/core/apiproxy"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
)

// TestWorkerReachesTheAPIServersFirst: the proxy listens where the kubeconfigs
// look, and is ready before kubelite starts.
func TestWorkerReachesTheAPIServersFirst(t *testing.T) {
	t.Parallel()
	root, err := node.Create(t.TempDir()+"/mk", node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	network := node.DefaultNetwork()
	network.APIPort = 26443
	d := defaults.Node{Root: root, Record: &node.Record{Name: "w", Role: node.Worker, Network: network}}
	for name, options := range d.Arguments() {
		if err := root.WriteFile("args/"+name, defaults.Render(name, options), root.Secret()); err != nil {
			t.Fatal(err)
		}
	}
	defs, err := d.Definitions("/usr/bin/mk")
	if err != nil {
		t.Fatal(err)
	}
	order, err := service.Order(defs)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(order, defaults.Etcd) || slices.Index(order, apiproxy.Service) > slices.Index(order, defaults.Kubelite) {
		t.Errorf("a worker starts %v", order)
	}
	i := slices.IndexFunc(defs, func(d service.Definition) bool { return d.Name == apiproxy.Service })
	if i < 0 || defs[i].Ready.TCP != "127.0.0.1:26443" || !slices.Equal(defs[i].Argv, []string{"mk", "--root=" + root.Dir(), "apiserver-proxy"}) {
		t.Errorf("definitions %+v", defs)
	}
}
