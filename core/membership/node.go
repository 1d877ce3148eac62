package membership

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/sdk/plugin"
)

// View is all that is known of one node of the cluster.
type View struct {
	Object kube.Node
	Record *cluster.Member // nil for a node that mk has no record of
}

// View looks at a node: as Kubernetes knows it and as mk does.
func (n Node) View(ctx context.Context, name string) (*View, error) {
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	v := &View{}
	v.Object, err = store.Client.Node(ctx, name)
	if kube.NotFound(err) {
		return nil, n.unknown(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	v.Record, err = store.Get(ctx, name)
	return v, err
}

// unknown says that there is no such node, and which there are, by mk's records.
func (n Node) unknown(ctx context.Context, name string) error {
	e := &operation.UnknownError{Reason: operation.NodeUnknown, What: "node", Name: name}
	members, err := n.Members(ctx)
	if err != nil {
		return errors.Join(e, err)
	}
	for _, m := range members {
		e.Known = append(e.Known, m.Name)
	}
	return e
}

// Marks are labels and taints to set on a node and to take from it.
type Marks struct {
	Node       string            `json:"node"`
	Labels     map[string]string `json:"labels,omitempty"`
	DropLabels []string          `json:"dropLabels,omitempty"`
	Taints     []kube.Taint      `json:"taints,omitempty"`
	DropTaints []kube.Taint      `json:"dropTaints,omitempty"`
}

// ParseMarks reads labels, KEY=VALUE or KEY-, and taints, KEY[=VALUE]:EFFECT,
// KEY:EFFECT- or KEY-, as kubectl does.
func ParseMarks(name string, labels, taints []string) (Marks, error) {
	m := Marks{Node: name, Labels: map[string]string{}}
	for _, text := range labels {
		key, value, set := strings.Cut(text, "=")
		drop, ok := strings.CutSuffix(text, "-")
		switch {
		case set && key != "":
			m.Labels[key] = value
		case !set && ok && drop != "":
			m.DropLabels = append(m.DropLabels, drop)
		default:
			return m, plugin.Errorf(plugin.BadArgument, "the label %.100q is neither KEY=VALUE nor KEY-", text)
		}
	}
	for _, text := range taints {
		drop, ok := strings.CutSuffix(text, "-")
		if !ok {
			t, err := ParseTaint(text)
			if err != nil {
				return m, err
			}
			m.Taints = append(m.Taints, t)
			continue
		}
		key, effect, _ := strings.Cut(drop, ":")
		if key == "" || strings.Contains(drop, "=") {
			return m, plugin.Errorf(plugin.BadArgument, "the taint %.100q is not KEY- or KEY:EFFECT-", text)
		}
		m.DropTaints = append(m.DropTaints, kube.Taint{Key: key, Effect: effect})
	}
	return m, nil
}

// Empty tells that there is nothing to set and nothing to take.
func (m Marks) Empty() bool {
	return len(m.Labels)+len(m.DropLabels)+len(m.Taints)+len(m.DropTaints) == 0
}

// Mark sets and takes labels and taints of a node. Done already is no error.
func (n Node) Mark(ctx context.Context, m Marks) error {
	r, err := n.Journal.Begin(ctx, "node set", m)
	if err != nil {
		return err
	}
	return r.End(ctx, r.Step(ctx, "mark "+m.Node, func(ctx context.Context) error {
		if _, err := n.View(ctx, m.Node); err != nil {
			return err
		}
		c, err := n.Kube()
		if err != nil {
			return err
		}
		if len(m.Labels)+len(m.DropLabels) > 0 {
			if err := c.SetLabels(ctx, m.Node, m.Labels, m.DropLabels); err != nil {
				return err
			}
		}
		if len(m.Taints)+len(m.DropTaints) == 0 {
			return nil
		}
		return c.SetTaints(ctx, m.Node, m.Taints, m.DropTaints)
	}))
}

// Firewall is what a node's firewall must let through.
type Firewall struct {
	Ports        []defaults.Port
	Nodes        []netip.Addr // of all nodes of the cluster
	ControlPlane []netip.Addr
	PodCIDR      string
	// Unknown says why the nodes are not known: then nobody can be told apart.
	Unknown string
}

// FirewallOf is the firewall of the node of a root folder; where there is none
// yet, of the control-plane node that would be.
func FirewallOf(ctx context.Context, options operation.Options) (*Firewall, error) {
	open, err := operation.OpenNode(options)
	if errors.Is(err, operation.ErrNoNode) || err == nil && open.Record == nil {
		network := node.DefaultNetwork()
		return &Firewall{Ports: defaults.Ports(node.ControlPlane, network, operation.AgentPort(options.Root)), PodCIDR: network.PodCIDR,
			Unknown: "this machine is of no cluster yet"}, nil
	}
	if err != nil {
		return nil, err
	}
	n := Of(open)
	defer n.Close() //nolint:errcheck // nothing was started
	f := &Firewall{Ports: defaults.Ports(n.Record.Role, n.Record.Network, n.AgentPort()), PodCIDR: n.Record.Network.PodCIDR}
	all, err := n.Members(ctx)
	if err != nil {
		f.Unknown = "the cluster cannot be asked: " + err.Error()
		return f, nil
	}
	for _, m := range all {
		for _, s := range append([]string{m.Address}, m.Addresses...) {
			a, err := netip.ParseAddr(s)
			if err != nil {
				continue
			}
			f.Nodes = append(f.Nodes, a)
			if m.Role == plugin.RoleControlPlane {
				f.ControlPlane = append(f.ControlPlane, a)
			}
		}
	}
	slices.SortFunc(f.Nodes, netip.Addr.Compare)
	slices.SortFunc(f.ControlPlane, netip.Addr.Compare)
	f.Nodes, f.ControlPlane = slices.Compact(f.Nodes), slices.Compact(f.ControlPlane)
	return f, nil
}
