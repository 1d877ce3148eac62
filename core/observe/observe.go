// Package observe answers questions about a node: how it is, what is wrong,
// and everything that somebody far away needs to know. It changes nothing,
// starts no plugin and takes no lock.
//
// Guaranteed: every answer comes in time, whatever hangs. Each source is asked
// beside the others with a deadline of its own; a source that does not answer
// is a line in the answer, and what hangs for ever is left behind.
package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service"
)

// sourceLimit is how long one source may take for a status.
const sourceLimit = 2500 * time.Millisecond

// Status is how a node is.
type Status struct {
	Running      bool              `json:"running"`
	Ready        bool              `json:"ready"`
	Stopped      bool              `json:"stopped"`
	Node         string            `json:"node,omitempty"`
	Role         string            `json:"role,omitempty"`
	Address      string            `json:"address,omitempty"`
	Services     []service.Status  `json:"services,omitempty"`
	Nodes        []NodeState       `json:"nodes,omitempty"`
	Addons       []AddonState      `json:"addons,omitempty"`
	HA           bool              `json:"highAvailability"`
	Voters       []string          `json:"voters,omitempty"`
	Certificates []ExpiringCert    `json:"certificates,omitempty"`
	Open         *operation.Record `json:"openOperation,omitempty"`
	Holder       string            `json:"holder,omitempty"` // who changes the node just now
	Silent       map[string]string `json:"silent,omitempty"` // source: why it did not answer
}

// NodeState is what the cluster says of a node.
type NodeState struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
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

// answer is what one source adds to a status.
type answer struct {
	source string
	err    error
	add    func(*Status)
}

// ask runs every source at once and collects what comes in time.
func ask(ctx context.Context, limit time.Duration, into *Status, sources map[string]func(context.Context) (func(*Status), error)) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answers := make(chan answer, len(sources)) // room for who comes late
	for name, source := range sources {
		go func() {
			add, err := source(ctx)
			answers <- answer{name, err, add}
		}()
	}
	missing := map[string]bool{}
	for name := range sources {
		missing[name] = true
	}
	for len(missing) > 0 {
		select {
		case a := <-answers:
			delete(missing, a.source)
			if a.err != nil {
				into.silent(a.source, a.err.Error())
			}
			if a.add != nil {
				a.add(into)
			}
		case <-time.After(limit + 100*time.Millisecond):
			for name := range missing {
				into.silent(name, fmt.Sprintf("no answer in %s", limit))
			}
			return
		}
	}
}

func (s *Status) silent(source, why string) {
	if s.Silent == nil {
		s.Silent = map[string]string{}
	}
	s.Silent[source] = why
}

// NodeStatus says how a node is, within 3 seconds.
func NodeStatus(ctx context.Context, n *operation.Node) *Status {
	s := &Status{}
	if n.Record != nil {
		s.Node, s.Role, s.Address, s.Stopped = n.Record.Name, string(n.Record.Role), n.Record.Address, n.Record.Stopped
	}
	sources := map[string]func(context.Context) (func(*Status), error){
		"services":     func(ctx context.Context) (func(*Status), error) { return services(ctx, n) },
		"certificates": func(context.Context) (func(*Status), error) { return certificates(n) },
		"journal":      func(context.Context) (func(*Status), error) { return journal(n) },
	}
	if n.Record != nil && n.Record.ClusterID != "" && !n.Record.Stopped {
		sources["API server"] = func(ctx context.Context) (func(*Status), error) { return cluster(ctx, n) }
		sources["datastore"] = func(ctx context.Context) (func(*Status), error) { return datastore(ctx, n) }
	}
	ask(ctx, sourceLimit, s, sources)
	return s
}

func services(ctx context.Context, n *operation.Node) (func(*Status), error) {
	list, err := n.Services().Status(ctx)
	if errors.Is(err, service.ErrNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return func(s *Status) {
		s.Services = list
		s.Running = slices.ContainsFunc(list, func(x service.Status) bool { return x.Name == "kubelite" && x.State == service.Running })
	}, nil
}

// cluster asks the API server for the nodes and the objects of addons, in one
// go and without discovery.
func cluster(ctx context.Context, n *operation.Node) (func(*Status), error) {
	offered, err := n.Addons()
	if err != nil {
		return nil, err
	}
	var targets []kube.ProbeTarget
	for _, a := range offered {
		for _, o := range a.Probe {
			targets = append(targets, kube.Ref{Group: o.Group, Version: o.Version, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name})
		}
	}
	c, err := n.Kube()
	if err != nil {
		return nil, err
	}
	o := c.Overview(ctx, targets)
	return func(s *Status) {
		for _, x := range o.Nodes {
			s.Nodes = append(s.Nodes, NodeState{x.Name, x.Ready, x.Reason})
			if x.Name == s.Node && x.Ready {
				s.Ready = true
			}
		}
		s.Addons = addonStates(offered, o.Probes)
	}, o.NodesErr
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
		}
		st.Healthy = st.Healthy && st.Enabled
		out = append(out, st)
	}
	return out
}

func certificates(n *operation.Node) (func(*Status), error) {
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

func journal(n *operation.Node) (func(*Status), error) {
	open, err := n.Journal.Open()
	if err != nil {
		return nil, err
	}
	owner, held := lock.Held(n.Root.Locks(), lock.Operation)
	return func(s *Status) {
		s.Open = open
		if held {
			s.Holder, s.Open = owner.Describe(time.Now()), nil
		}
	}, nil
}
