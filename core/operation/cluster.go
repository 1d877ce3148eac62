package operation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"mk8s.io/mk/core/apiproxy"
	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

// strategy is the active clustering plugin, and the facts of this node that
// its questions carry.
func (n *Node) strategy(ctx context.Context) (clustering.Plugin, plugin.Identity, plugin.Node, error) {
	c, who, err := n.Plugins.Clustering(ctx)
	if err != nil {
		return nil, who, plugin.Node{}, err
	}
	grants, err := n.grantsOf(who)
	if err != nil {
		return nil, who, plugin.Node{}, err
	}
	facts, err := n.Facts(ctx, grants)
	return c, who, facts, err
}

// InviteOptions say whom to invite.
type InviteOptions struct {
	Token    string
	Lifetime time.Duration
	Uses     uint32
	Worker   bool
}

// Invite makes a token and answers what a new node needs to use it.
func (n *Node) Invite(ctx context.Context, o InviteOptions) (clustering.Invitation, error) {
	if n.Record.Role == node.Worker {
		return clustering.Invitation{}, &plugin.Error{Reason: plugin.NotPossible, Message: "a worker cannot invite others", Next: "mk add-node, on a control-plane node"}
	}
	fingerprint, err := n.fingerprint()
	if err != nil {
		return clustering.Invitation{}, err
	}
	c, _, facts, err := n.strategy(ctx)
	if err != nil {
		return clustering.Invitation{}, err
	}
	role := plugin.RoleControlPlane
	if o.Worker {
		role = plugin.RoleWorker
	}
	return c.Invite(ctx, clustering.InviteRequest{
		Call: plugin.Call{OperationID: node.NewID()}, Node: facts, Role: role,
		Lifetime: o.Lifetime, Uses: o.Uses, Token: o.Token, Fingerprint: fingerprint,
	})
}

// fingerprint is what joiners pin: the key of the agent's certificate.
func (n *Node) fingerprint() (string, error) {
	data, err := n.Root.ReadFile("certs/server.crt")
	if err != nil {
		return "", err
	}
	cert, err := pki.ParseCertificate(data)
	if err != nil {
		return "", err
	}
	return peer.Fingerprint(cert), nil
}

// AgentBind is where this node's agent listens: what args/cluster-agent says.
func (n *Node) AgentBind() (string, error) {
	f, err := args.Load(n.Root.Args("cluster-agent"))
	if err != nil {
		return "", err
	}
	if bind, ok := f.Get("bind"); ok {
		return bind, nil
	}
	return "0.0.0.0:" + strconv.Itoa(n.Record.Network.AgentPort), nil
}

// agentPort is the port of AgentBind.
func (n *Node) agentPort() int {
	if bind, err := n.AgentBind(); err == nil {
		if port, err := strconv.Atoi(bind[strings.LastIndexByte(bind, ':')+1:]); err == nil && port > 0 && port < 65536 {
			return port
		}
	}
	return n.Record.Network.AgentPort
}

// writeMember writes this node's own record.
func (n *Node) writeMember(ctx context.Context) error {
	store, err := n.members()
	if err != nil {
		return err
	}
	m, err := store.Get(ctx, n.Record.Name)
	if err != nil {
		return err
	}
	if m == nil {
		m = &cluster.Member{Name: n.Record.Name, Joined: n.Now().UTC()}
	}
	m.ID, m.Role, m.Address, m.Addresses, m.AgentPort = n.Record.ID, string(n.Record.Role), n.Record.Address, n.Record.Addresses, n.agentPort()
	m.State, m.Seen = cluster.Joined, n.Now().UTC()
	m.Versions = map[string]string{"mk": n.Version, "kubernetes": KubernetesVersion}
	return store.Put(ctx, m)
}

// Members are the records of the cluster's nodes.
func (n *Node) Members(ctx context.Context) ([]*cluster.Member, error) {
	_, all, err := n.records(ctx)
	return all, err
}

// records are those of the cluster's nodes, and where they are written.
func (n *Node) records(ctx context.Context) (cluster.Members, []*cluster.Member, error) {
	store, err := n.members()
	if err != nil {
		return store, nil, err
	}
	all, err := store.List(ctx)
	return store, all, err
}

// datastoreMembers are the datastore's members just now.
func (n *Node) datastoreMembers(ctx context.Context) ([]clustering.Member, error) {
	d, err := n.Datastore()
	if err != nil {
		return nil, err
	}
	status, err := d.Status(ctx)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	out := make([]clustering.Member, 0, len(status.Members))
	for _, m := range status.Members {
		out = append(out, clustering.Member{Name: m.Name, PeerAddress: m.PeerAddress, ClientAddress: m.ClientAddress, Role: m.Role})
	}
	return out, nil
}

// AskControlPlane sends a request to the agents of control-plane nodes, one
// after the other, until one answers: as this node, to whoever the cluster's
// authority signed.
func (n *Node) AskControlPlane(ctx context.Context, path string, in, out any) error {
	agents, err := n.agents()
	if err != nil {
		return err
	}
	return n.askAgents(ctx, agents, path, in, out)
}

// agents are those of the control-plane nodes: as they were when this node
// joined, and where the API servers are now.
func (n *Node) agents() ([]string, error) {
	data, err := n.Root.ReadFile(agentsFile)
	if err != nil {
		return nil, err
	}
	var out []string
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Root.Path(agentsFile), err)
	}
	if data, err = n.Root.ReadFile(apiproxy.ListFile); err != nil {
		return nil, err
	}
	now, err := apiproxy.ParseList(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Root.Path(apiproxy.ListFile), err)
	}
	for _, a := range now {
		if agent := net.JoinHostPort(a.Addr().String(), strconv.Itoa(n.Record.Network.AgentPort)); !slices.Contains(out, agent) {
			out = append(out, agent)
		}
	}
	return out, nil
}

// askAgents asks one agent after the other until one has done it. What one
// refuses another may do: it may have left, or its datastore may be slow.
func (n *Node) askAgents(ctx context.Context, agents []string, path string, in, out any) error {
	var errs []error
	for _, address := range agents {
		c, err := n.PeerAt(address)
		if err != nil {
			return err
		}
		err = c.Call(ctx, path, in, out)
		c.Close()
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(errs...)
}

// PeerAt is a client of another node's agent, as this node.
func (n *Node) PeerAt(address string) (*peer.Client, error) {
	p, err := pki.Find(pki.NodeAgent)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(n.Root.Path(p.CertFile()), n.Root.Path(p.KeyFile()))
	if err != nil {
		return nil, fmt.Errorf("read this node's certificate: %w", err)
	}
	bundle, err := n.Root.ReadFile(kubernetesTrust)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("%s holds no certificate", n.Root.Path(kubernetesTrust))
	}
	return peer.New(address, peer.Options{Roots: roots, Client: &pair}), nil
}
