// Package observe answers questions about a node: how it is, what is wrong,
// and everything that somebody far away needs to know. It changes nothing,
// starts no plugin and takes no lock.
//
// Guaranteed: every answer comes in time, whatever hangs. Each source is asked
// beside the others with a deadline of its own; a source that does not answer
// is a line in the answer, and what hangs for ever is left behind.
package observe

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	wanted "mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/pluginsdir/manifest"
)

// sourceLimit is how long one source may take for a status.
const sourceLimit = 2500 * time.Millisecond

// Status is how a node is.
type Status struct {
	Running      bool              `json:"running"`
	Ready        bool              `json:"ready"`
	Stopped      bool              `json:"stopped"`
	Outdated     string            `json:"outdated,omitempty"` // the cluster goes on without this node: how it came
	Node         string            `json:"node,omitempty"`
	Role         string            `json:"role,omitempty"`
	Address      string            `json:"address,omitempty"`
	Services     []service.Status  `json:"services,omitempty"`
	Nodes        []NodeState       `json:"nodes,omitempty"`
	Addons       []AddonState      `json:"addons,omitempty"`
	HA           bool              `json:"highAvailability"`
	Voters       []string          `json:"voters,omitempty"`
	Standby      []string          `json:"standby,omitempty"` // members that do not vote
	Certificates []ExpiringCert    `json:"certificates,omitempty"`
	Open         *operation.Record `json:"openOperation,omitempty"` // without what plugins keep in it
	// AcceptsMicroK8s says that MicroK8s' own clients are let in.
	AcceptsMicroK8s bool `json:"acceptsMicroK8s,omitempty"`
	// RootEquivalent are the active plugins that could become root.
	RootEquivalent []string `json:"rootEquivalentPlugins,omitempty"`
	// Drift is where this node is not as the cluster wants it.
	Drift []wanted.Drift `json:"drift,omitempty"`
	// Asked is what marker files ask for that a person or a tool changed.
	Asked  []operation.Asked `json:"asked,omitempty"`
	Holder string            `json:"holder,omitempty"` // who changes the node just now
	Silent map[string]string `json:"silent,omitempty"` // source: why it did not answer
}

// NodeState is what the cluster says of a node.
type NodeState struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Version is the kubelet's.
	Version    string   `json:"version,omitempty"`
	Conditions []string `json:"conditions,omitempty"` // those that are not as they should be
}

// AddonState is an addon and whether it is enabled and healthy.
type AddonState struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Version     string `json:"version"`
	Enabled     bool   `json:"enabled"`
	Healthy     bool   `json:"healthy"`
	Reason      string `json:"reason,omitempty"`
}

// ExpiringCert is a certificate that ends soon or has another fault.
type ExpiringCert struct {
	Name    string       `json:"name"`
	Reasons []pki.Reason `json:"reasons"`
}

// fill is what one source adds to a status.
type fill = func(*Status)

func asked(n *operation.Node) (fill, error) {
	list, err := n.Requests()
	return func(s *Status) { s.Asked = list }, err
}

func (s *Status) silent(source, why string) {
	if s.Silent == nil {
		s.Silent = map[string]string{}
	}
	s.Silent[source] = why
}

// Silences lists, sorted, what could not be found out and why, one line each.
func (s *Status) Silences() []string {
	out := make([]string, 0, len(s.Silent))
	for source, why := range s.Silent {
		out = append(out, source+": "+why)
	}
	slices.Sort(out)
	return out
}

// NodeStatus says how a node is, within 3 seconds.
func NodeStatus(ctx context.Context, n *operation.Node) *Status {
	s := &Status{AcceptsMicroK8s: n.AcceptsMicroK8s()}
	if n.Silent != nil {
		s.silent("disk", n.Silent.Error())
	}
	if n.Record != nil {
		s.Node, s.Role, s.Address, s.Stopped = n.Record.Name, string(n.Record.Role), n.Record.Address, n.Record.Stopped
	}
	sources := map[string]func(context.Context) (fill, error){
		"services":     func(ctx context.Context) (fill, error) { return services(ctx, n) },
		"certificates": read(n, func(context.Context) (fill, error) { return certificates(n) }, node.CertsPart),
		"journal":      read(n, func(context.Context) (fill, error) { return journal(n) }, node.JournalPart),
		"markers":      read(n, func(context.Context) (fill, error) { return asked(n) }, node.Folder),
		"wishes": read(n, func(context.Context) (fill, error) {
			drift, err := n.Drift()
			return func(s *Status) { s.Drift = drift }, err
		}, node.ArgsPart, node.JournalPart),
		"plugins": read(n, func(context.Context) (fill, error) { return powerful(n) }, node.PluginsPart),
	}
	if n.Record != nil && n.Record.ClusterID != "" && !n.Record.Stopped {
		sources["API server"] = read(n, func(ctx context.Context) (fill, error) { return cluster(ctx, n) }, node.SecretsPart, node.CertsPart)
		if n.Record.Role == node.ControlPlane {
			sources["datastore"] = read(n, func(ctx context.Context) (fill, error) { return members(ctx, n) }, node.CertsPart)
		}
		sources["containerd"] = func(ctx context.Context) (fill, error) { return nil, containerd(ctx, n.Defaults().ContainerdSocket()) }
	}
	for source, o := range together(ctx, sourceLimit, sources) {
		if o.err != nil {
			s.silent(source, o.err.Error())
		}
		if o.value != nil {
			o.value(s)
		}
	}
	// A node whose API server does not answer is not ready, whatever was said
	// before; and a stopped one is not either. The API server goes on to answer
	// for a while from what it remembers when its datastore hangs.
	s.Ready = s.Ready && !s.Stopped && s.Silent["datastore"] == "" && s.Silent["containerd"] == ""
	return s
}

// read is a question that is only put where the parts of the node's folder
// that it needs answer.
func read[T any](n *operation.Node, ask func(context.Context) (T, error), parts ...string) func(context.Context) (T, error) {
	return func(ctx context.Context) (T, error) {
		if err := n.Unread(parts...); err != nil {
			var none T
			return none, err
		}
		return ask(ctx)
	}
}

// powerful names the active plugins that could become root of the cluster.
func powerful(n *operation.Node) (fill, error) {
	list, err := n.Dir.List()
	if err != nil {
		return nil, err
	}
	return func(s *Status) {
		for _, p := range list {
			if p.Active && p.Class == manifest.RootEquivalent {
				s.RootEquivalent = append(s.RootEquivalent, p.String())
			}
		}
	}, nil
}

// containerd says whether its socket is served by somebody who accepts. A
// stopped process still does, so the HTTP/2 preface is sent and must be
// answered.
func containerd(ctx context.Context, socket string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // only asked
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	// The preface and an empty SETTINGS frame.
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 9))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

func services(ctx context.Context, n *operation.Node) (fill, error) {
	list, err := n.Services().Status(ctx)
	if errors.Is(err, service.ErrNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if n.Record != nil { // nobody misses what is not to run
		list = slices.DeleteFunc(list, func(x service.Status) bool { return slices.Contains(n.Record.Off, x.Name) })
	}
	return func(s *Status) {
		s.Services = list
		s.Running = slices.ContainsFunc(list, func(x service.Status) bool { return x.Name == "kubelite" && x.State == service.Running })
	}, nil
}

// cluster asks the API server for the nodes and the objects of addons, in one
// go and without discovery. What the addons are is no reason not to ask for
// the nodes.
func cluster(ctx context.Context, n *operation.Node) (fill, error) {
	if n.Record.Role == node.Worker {
		return itself(ctx, n)
	}
	var offered []operation.Offered
	addonsErr := n.Unread(node.PluginsPart)
	if addonsErr == nil {
		offered, addonsErr = n.Addons()
	}
	var targets []kube.ProbeTarget
	for _, a := range offered {
		for _, o := range a.Probe {
			targets = append(targets, kube.Ref{Group: o.Group, Version: o.Version, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name})
		}
	}
	// A client of its own: the node's is made under a lock that a dead disk
	// would keep from everybody else.
	c, err := kube.ConnectFile(n.Root.Credentials("client.config"), kube.Options{Version: n.Version})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	o := c.Overview(ctx, targets)
	for _, p := range o.Probes {
		addonsErr = errors.Join(addonsErr, p.Err)
	}
	return func(s *Status) {
		for _, x := range o.Nodes {
			s.Nodes = append(s.Nodes, NodeState{Name: x.Name, Ready: x.Ready, Reason: x.Reason, Version: x.Version, Conditions: wrong(x)})
			if x.Name == s.Node && x.Ready {
				s.Ready = o.ReadyErr == nil
			}
		}
		if o.NodesErr == nil {
			s.Addons = addonStates(offered, o.Probes)
		}
	}, errors.Join(cmp.Or(o.NodesErr, o.ReadyErr), addonsErr)
}

// itself asks the API server for a worker's own node: it may read no other.
func itself(ctx context.Context, n *operation.Node) (fill, error) {
	c, err := kube.ConnectFile(n.Root.Credentials(n.Kubeconfig()), kube.Options{Version: n.Version})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	x, err := c.Node(ctx, n.Record.Name)
	if err != nil {
		return nil, err
	}
	return func(s *Status) {
		s.Nodes = []NodeState{{Name: x.Name, Ready: x.Ready, Reason: x.Reason, Version: x.Version, Conditions: wrong(x)}}
		s.Ready = x.Ready
	}, nil
}

// wrong are the conditions of a node that are not as they should be.
func wrong(x kube.Node) []string {
	var out []string
	for _, c := range x.Conditions {
		if good := c.Type == "Ready"; (c.Status == "True") != good {
			out = append(out, c.Type+"="+c.Status+": "+c.Message)
		}
	}
	return out
}

func addonStates(offered []operation.Offered, probes []kube.ProbeResult) []AddonState {
	out := make([]AddonState, 0, len(offered))
	i := 0
	for _, a := range offered {
		st := AddonState{Name: a.Name, Description: a.Description, Version: a.Version, Enabled: len(a.Probe) > 0, Healthy: true}
		for range a.Probe {
			r := probes[i]
			i++
			st.Enabled = st.Enabled && r.Exists
			st.Healthy = st.Healthy && r.Healthy
			if st.Reason == "" {
				st.Reason = r.Reason
			}
			if r.Err != nil { // neither enabled nor disabled is known
				st.Reason = "not known: " + r.Err.Error()
			}
		}
		st.Healthy = st.Healthy && st.Enabled
		out = append(out, st)
	}
	return out
}

func certificates(n *operation.Node) (fill, error) {
	if n.Record == nil || n.Record.ClusterID == "" {
		return nil, nil
	}
	list, err := n.Certificates()
	if err != nil {
		return nil, err
	}
	return func(s *Status) {
		for _, c := range list {
			if len(c.Reasons) > 0 {
				s.Certificates = append(s.Certificates, ExpiringCert{c.Profile, c.Reasons})
			}
		}
	}, nil
}

func journal(n *operation.Node) (fill, error) {
	open, err := n.Journal.Open()
	if err != nil {
		return nil, err
	}
	owner, held := lock.Held(n.Root.Locks(), lock.Operation)
	outdated := n.Outdated()
	return func(s *Status) {
		if e, ok := errors.AsType[*operation.OutdatedError](outdated); ok {
			s.Outdated, s.Ready = e.Error()+"; "+e.Why(), false
		}
		s.Open = withoutSecrets(open)
		if held {
			s.Holder, s.Open = owner.Describe(n.Now()), nil
		}
	}, nil
}

// withoutSecrets is a record without parameters and without the states that
// plugins keep in their steps: either may hold anything.
func withoutSecrets(r *operation.Record) *operation.Record {
	if r == nil {
		return nil
	}
	c := *r
	c.Params, c.Steps = nil, slices.Clone(r.Steps)
	for i := range c.Steps {
		c.Steps[i].Next.State = nil
	}
	return &c
}
