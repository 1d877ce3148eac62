package membership

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/recovery"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

// RemoveOptions say how another node is removed.
type RemoveOptions struct {
	Name    string `json:"name"`
	Force   bool   `json:"force,omitempty"` // it is dead: it is not drained, and its member goes as it is
	NoDrain bool   `json:"noDrain,omitempty"`
}

// RemoveNode takes another node out of the cluster: whatever of datastore
// member, node object and record is there goes. Asked again, it goes on.
func (n Node) RemoveNode(ctx context.Context, o RemoveOptions) error {
	if n.Record.Role == node.Worker {
		return &plugin.Error{Reason: plugin.NotPossible, Message: "a worker cannot remove others", Next: "mk remove-node, on a control-plane node"}
	}
	if o.Name == n.Record.Name {
		return &plugin.Error{Reason: plugin.NotPossible, Message: o.Name + " is this node", Next: "mk leave"}
	}
	r, err := n.Journal.Begin(ctx, "remove-node", o)
	if err != nil {
		return err
	}
	return r.End(ctx, n.removeNode(ctx, r, o))
}

func (n Node) removeNode(ctx context.Context, r *operation.Run, o RemoveOptions) error {
	// Its member may be gone, of two, from when it left or was removed before.
	if err := recovery.Of(n.Node).SettleWithout(ctx, o.Name); err != nil {
		n.detail(fmt.Sprintf("the datastore does not go on without %s: %v", o.Name, err))
	}
	store, err := n.Store()
	if err != nil {
		return err
	}
	m, err := store.Get(ctx, o.Name)
	if err != nil {
		return err
	}
	members, err := n.DatastoreMembers(ctx)
	if err != nil {
		return err
	}
	object, err := store.Client.Node(ctx, o.Name)
	if err != nil && !kube.NotFound(err) {
		return err
	}
	known := slices.ContainsFunc(members, func(d clustering.Member) bool { return d.Name == o.Name })
	if m == nil && !known && err != nil {
		if len(r.Record.Steps) > 0 {
			return nil // gone, and only the end of this operation was not noted
		}
		return n.unknown(ctx, o.Name)
	}
	if err == nil && !object.Ready && !o.Force {
		return &plugin.Error{Reason: plugin.NotPossible, Message: o.Name + " does not answer: its pods cannot be moved", Next: "mk remove-node " + o.Name + " --force"}
	}
	if err == nil && !o.Force && !o.NoDrain {
		err := r.Step(ctx, "drain "+o.Name, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, drainLimit)
			defer cancel()
			return n.drained(ctx, store.Client, o.Name)
		})
		if err != nil {
			return err
		}
	}
	if known || (m != nil && m.Role == plugin.RoleControlPlane) {
		if err := r.Step(ctx, "save the datastore", func(ctx context.Context) error {
			n.save(ctx, "remove-node")
			return nil
		}); err != nil {
			return err
		}
		if err := r.Step(ctx, "take "+o.Name+" out of the datastore", func(ctx context.Context) error { return n.removeMember(ctx, r, o, m, members) }); err != nil {
			return err
		}
	}
	return r.Step(ctx, "remove the object and rights of "+o.Name, func(ctx context.Context) error {
		err := n.ForgetNode(ctx, o.Name)
		if err == nil && m != nil {
			n.tellRemoved(ctx, m)
		}
		return err
	})
}

func (n Node) removeMember(ctx context.Context, r *operation.Run, o RemoveOptions, m *cluster.Member, members []clustering.Member) error {
	c, who, facts, err := n.Strategy(ctx)
	if err != nil {
		return err
	}
	target := plugin.Node{Name: o.Name, Role: plugin.RoleControlPlane, Cluster: facts.Cluster}
	if m != nil {
		target.Address, target.Addresses = m.Address, m.Addresses
	}
	return r.Ask(ctx, "remove "+o.Name, who, func(ctx context.Context, call plugin.Call) (plugin.Answer, error) {
		return c.Remove(ctx, clustering.RemoveRequest{Call: call, Node: facts, Target: target, Members: members, Force: o.Force})
	}, nil)
}

// tellRemoved has a node that may be alive look whether it is a member. Who
// does not hear it finds out when its agent starts.
func (n Node) tellRemoved(ctx context.Context, m *cluster.Member) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := n.AskAgents(ctx, []string{m.Agent()}, peer.RemovedPath, peer.Leave{Node: m.Name}, nil); err != nil {
		n.detail(fmt.Sprintf("%s was not told: %v", m.Name, err))
	}
}

// save takes a snapshot before a member goes. What the others hold is no less
// than before, so one that cannot be taken is no reason to stop.
func (n Node) save(ctx context.Context, why string) {
	if _, err := recovery.Of(n.Node).Save(ctx, recovery.SaveOptions{Why: why}); err != nil {
		n.detail(fmt.Sprintf("no snapshot was taken: %v", err))
	}
}
