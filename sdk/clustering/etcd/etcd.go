package etcd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
)

const (
	peerPort   = 2380
	clientPort = 12379
	backend    = "var/kubernetes/backend"
	initFile   = backend + "/init.yaml"
	trust      = "certs/datastore-ca.crt"
	peerName   = "mk:datastore" // the common name of the profile datastore
)

// Etcd answers from what it is asked with: it keeps no state.
type Etcd struct {
	version string
	host    func() (host.Host, error) // connects; only Invite asks the host
}

var _ clustering.Plugin = (*Etcd)(nil)

// New makes the plugin. It connects to the host when it first asks it.
func New(version string, connect func() (host.Host, error)) *Etcd {
	return &Etcd{version: version, host: sync.OnceValues(connect)}
}

// Describe says what this plugin is and may do.
func (p *Etcd) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Identity:  plugin.Identity{Kind: plugin.KindClustering, Name: "etcd", Version: p.version, Publisher: "mk"},
		Contracts: []string{plugin.Contract(plugin.KindClustering)},
		Grants: plugin.Grants{
			FilesRead:    []string{initFile},
			FilesWrite:   []string{backend, backend + "/**"},
			Arguments:    []string{"etcd/*"},
			Services:     []string{"etcd"},
			Certificates: []string{"datastore", "datastore-client"},
			Members:      true,
		},
		Routes: routes(), Steps: steps(),
	}, nil
}

// Configure has nothing to keep.
func (p *Etcd) Configure(context.Context, plugin.Configuration) error { return nil }

// Health is always good: answers depend on questions only.
func (p *Etcd) Health(context.Context) error { return nil }

// Forget has nothing to drop.
func (p *Etcd) Forget(context.Context, plugin.Call) error { return nil }

// Init sets up etcd with this node as its only member. It is a function of
// the node's facts: asked again, it answers the same.
func (p *Etcd) Init(_ context.Context, r clustering.InitRequest) (plugin.Answer, error) {
	n := r.Node
	if err := checkNode(n); err != nil {
		return plugin.Answer{}, err
	}
	b := changeset.Build()
	b.MakeFolder(backend + "/etcd").Mode(0o700)
	b.WriteFile(initFile, fmt.Appendf(nil, "Address: %s\n", join(n.Address, peerPort))).Mode(0o640).
		Because("where this node's datastore is reached")
	b.IssueCertificate("datastore").Because("the datastore's peers, server and clients")
	b.IssueCertificate("datastore-client").Because("the API server's way to the datastore")
	for _, o := range arguments(n) {
		b.SetArgument("etcd", o[0], o[1])
	}
	return plugin.Answer{Changes: b.ChangeSet()}, nil
}

// checkNode finds facts that would make etcd's arguments mean something else.
func checkNode(n plugin.Node) error {
	if a, err := netip.ParseAddr(n.Address); err != nil || a.Zone() != "" || a.IsUnspecified() {
		return plugin.Errorf(plugin.BadArgument, "the node's address %q is not an IP address", n.Address)
	}
	if n.Name == "" || strings.ContainsAny(n.Name, ",=") || n.Cluster.ID == "" {
		return plugin.Errorf(plugin.BadArgument, "the node %q of cluster %q has no name that etcd can use", n.Name, n.Cluster.ID)
	}
	return nil
}

// arguments are etcd's. Paths are relative to the node's root folder, which is
// etcd's working folder.
func arguments(n plugin.Node) [][2]string {
	peer, client := "https://"+join(n.Address, peerPort), "https://"+join(n.Address, clientPort)
	pair := func(prefix string) [][2]string {
		return [][2]string{
			{prefix + "cert-file", backend + "/cluster.crt"}, {prefix + "key-file", backend + "/cluster.key"},
			{prefix + "trusted-ca-file", trust}, {prefix + "client-cert-auth", "true"},
		}
	}
	out := [][2]string{
		{"name", n.Name},
		{"data-dir", backend + "/etcd"},
		{"listen-peer-urls", peer},
		{"initial-advertise-peer-urls", peer},
		{"listen-client-urls", "https://127.0.0.1:" + strconv.Itoa(clientPort) + "," + client},
		{"advertise-client-urls", client},
		{"listen-metrics-urls", "http://127.0.0.1:2381"},
		{"initial-cluster", n.Name + "=" + peer},
		{"initial-cluster-state", "new"},
		{"initial-cluster-token", n.Cluster.ID},
		{"snapshot-count", "10000"},
		// The API server compacts what it has written.
		{"auto-compaction-mode", "periodic"},
		{"auto-compaction-retention", "0"},
		{"quota-backend-bytes", strconv.Itoa(4 << 30)},
		// Its authority signs the API server's client certificates, too.
		{"peer-cert-allowed-cn", peerName},
	}
	return append(append(out, pair("")...), pair("peer-")...)
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// Members is this node alone: growing comes with joins.
func (p *Etcd) Members(_ context.Context, n plugin.Node) ([]clustering.Member, error) {
	return []clustering.Member{{
		Name: n.Name, PeerAddress: "https://" + join(n.Address, peerPort),
		ClientAddress: "https://" + join(n.Address, clientPort), Role: "voter",
	}}, nil
}
