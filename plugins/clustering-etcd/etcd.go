package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

const (
	peerPort   = 2380
	clientPort = 12379
	backend    = "var/kubernetes/backend"
	initFile   = backend + "/init.yaml"
	trust      = "certs/datastore-ca.crt"
)

// Etcd answers from what it is asked with: it keeps no state.
type Etcd struct{ version string }

var _ clustering.Plugin = (*Etcd)(nil)

// New makes the plugin.
func New(version string) *Etcd { return &Etcd{version: version} }

// Describe says what this plugin is and may do.
func (p *Etcd) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Identity:  plugin.Identity{Kind: plugin.KindClustering, Name: "etcd", Version: p.version, Publisher: "mk"},
		Contracts: []string{plugin.Contract(plugin.KindClustering)},
		Grants: plugin.Grants{
			FilesRead:    []string{initFile},
			FilesWrite:   []string{backend, backend + "/**"},
			Arguments:    []string{"etcd/*"},
			Certificates: []string{"datastore", "datastore-client"},
		},
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
	if net.ParseIP(n.Address) == nil {
		return plugin.Answer{}, plugin.Errorf(plugin.BadArgument, "the node's address %q is not an IP address", n.Address)
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
		{"quota-backend-bytes", strconv.Itoa(4 << 30)},
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

// errGrow says what this version has not.
func errGrow(what string) error {
	return plugin.Errorf(plugin.Unsupported, "%s: this version of clustering/etcd keeps one node", what)
}

// Invite is refused: nobody can join yet.
func (p *Etcd) Invite(context.Context, clustering.InviteRequest) (clustering.Invitation, error) {
	return clustering.Invitation{}, errGrow("add-node")
}

// Admit is refused: nobody can join yet.
func (p *Etcd) Admit(context.Context, clustering.AdmitRequest) (clustering.Verdict, error) {
	return clustering.Verdict{Denied: &clustering.Denied{Reason: plugin.Unsupported, Message: errGrow("join").Error()}}, nil
}

// Join is refused: nobody can join yet.
func (p *Etcd) Join(context.Context, clustering.JoinRequest) (plugin.Answer, error) {
	return plugin.Answer{}, errGrow("join")
}

// Leave is refused: a single node has nobody to leave.
func (p *Etcd) Leave(context.Context, clustering.LeaveRequest) (plugin.Answer, error) {
	return plugin.Answer{}, errGrow("leave")
}

// Remove is refused: there is no other node.
func (p *Etcd) Remove(context.Context, clustering.RemoveRequest) (plugin.Answer, error) {
	return plugin.Answer{}, errGrow("remove-node")
}

// Abort has nothing to take back.
func (p *Etcd) Abort(context.Context, clustering.AbortRequest) (plugin.Answer, error) {
	return plugin.Answer{}, nil
}

// Serve knows no route.
func (p *Etcd) Serve(_ context.Context, r clustering.ServeRequest) (clustering.Served, error) {
	return clustering.Served{}, plugin.Errorf(plugin.Unsupported, "there is no route %s %s", r.Method, strings.ToValidUTF8(r.Path, "?"))
}
