package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"

	"mk8s.io/mk/core/apiproxy"
	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

// AgentsFile is where a worker finds the control plane's agents: a list of
// host:port, JSON.
const AgentsFile = "var/kubernetes/agents.json"

// PeersFile holds the agents of the control plane's other nodes as they were
// last seen.
const PeersFile = "var/peers.json"

const maxPeers = 1 << 20

// IdentityFile says which of the cluster's identities this node is of.
const IdentityFile = "var/identity.json"

// Strategy is the active clustering plugin, and the facts of this node that
// its questions carry.
func (n *Node) Strategy(ctx context.Context) (clustering.Plugin, plugin.Identity, plugin.Node, error) {
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

// AgentPort is the port of AgentBind.
func (n *Node) AgentPort() int {
	if bind, err := n.AgentBind(); err == nil && portOf(bind) > 0 {
		return portOf(bind)
	}
	return n.Record.Network.AgentPort
}

// writeMember writes this node's own record.
func (n *Node) writeMember(ctx context.Context) error {
	store, err := n.Store()
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
	m.ID, m.Role, m.Address, m.Addresses, m.AgentPort = n.Record.ID, string(n.Record.Role), n.Record.Address, n.Record.Addresses, n.AgentPort()
	m.State, m.Seen, m.NoVote = cluster.Joined, n.Now().UTC(), n.Record.NoVote
	m.Versions = map[string]string{"mk": n.Version, "kubernetes": KubernetesVersion}
	if err := store.Put(ctx, m); err != nil {
		return err
	}
	return cluster.Reports{Client: store.Client}.Grant(ctx, m.Name)
}

// NoteAgent has the other nodes know the port of this node's agent. A worker may
// not write its record: its port is that with which it joined.
func (n *Node) NoteAgent(ctx context.Context) error {
	if string(n.Record.Role) != plugin.RoleControlPlane {
		return nil
	}
	store, err := n.Store()
	if err != nil {
		return err
	}
	m, err := store.Get(ctx, n.Record.Name)
	if err != nil || m == nil || m.AgentPort == n.AgentPort() {
		return err
	}
	m.AgentPort = n.AgentPort()
	return store.Put(ctx, m)
}

// Store is where the records of the cluster's nodes are.
func (n *Node) Store() (cluster.Members, error) {
	c, err := n.Kube()
	return cluster.Members{Client: c}, err
}

// Members are the records of the cluster's nodes.
func (n *Node) Members(ctx context.Context) ([]*cluster.Member, error) {
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	return store.List(ctx)
}

// DatastoreMembers are the datastore's members just now.
func (n *Node) DatastoreMembers(ctx context.Context) ([]clustering.Member, error) {
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
	agents, err := n.Agents()
	if err != nil {
		return err
	}
	return n.AskAgents(ctx, agents, path, in, out)
}

// Agents are those of the control-plane nodes: as they were when this node
// joined, and where the API servers are now; and on the ports where these were
// seen last.
func (n *Node) Agents() ([]string, error) {
	data, err := n.Root.ReadFile(AgentsFile)
	if err != nil {
		return nil, err
	}
	var out []string
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Root.Path(AgentsFile), err)
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
	seen, _ := n.Peers() // where it cannot be read, the others have to do
	for _, s := range seen {
		if !slices.Contains(out, s) && slices.ContainsFunc(out, func(a string) bool { return HostOf(a) == HostOf(s) }) {
			out = append(out, s)
		}
	}
	return out, nil
}

// Peers reads PeersFile; a node that never saw others has none.
func (n *Node) Peers() ([]string, error) {
	text, err := n.Root.ReadFile(PeersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(text) > maxPeers {
		return nil, fmt.Errorf("%s is larger than %d bytes", n.Root.Path(PeersFile), maxPeers)
	}
	var agents []string
	if err := json.Unmarshal(text, &agents); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Root.Path(PeersFile), err)
	}
	return agents, nil
}

// HostOf is an agent's host; it is empty where that is no agent.
func HostOf(agent string) string {
	host, _, err := net.SplitHostPort(agent)
	if err != nil {
		return ""
	}
	return host
}

// AskAgents asks one agent after the other until one has done it. What one
// refuses another may do: it may have left, or its datastore may be slow.
func (n *Node) AskAgents(ctx context.Context, agents []string, path string, in, out any) error {
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

// ForgetNode removes a node's object and record; what is gone is no error.
func (n *Node) ForgetNode(ctx context.Context, name string) error {
	store, err := n.Store()
	if err != nil {
		return err
	}
	was, err := store.Get(ctx, name)
	if err != nil {
		return err
	}
	if err := n.Expel(ctx, store, name); err != nil {
		return err
	}
	for range forgetTries { // it may be written meanwhile
		m, err := store.Get(ctx, name)
		if err != nil {
			return err
		}
		if m == nil || was == nil || was.Operation != m.Operation {
			break
		}
		if err := store.Delete(ctx, m); !errors.Is(err, cluster.ErrChanged) {
			if err != nil {
				return err
			}
			break
		}
	}
	m, err := n.Relist(ctx, store, name)
	if err == nil && m != nil { // another joined by that name
		err = fmt.Errorf("node %s: %w", name, cluster.ErrChanged)
	}
	return err
}

// forgetTries is how often a record is read anew that changes while it is to go.
const forgetTries = 10
