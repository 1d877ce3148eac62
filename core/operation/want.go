package operation

import (
	"context"
	"fmt"
	"slices"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

func (n *Node) wishes() (cluster.Wishes, error) {
	c, err := n.Kube()
	return cluster.Wishes{Client: c}, err
}

// by names who changes what the cluster wants.
func (n *Node) by() string { return n.User + " on " + n.Record.Name }

// want adds operations of scope cluster to what the cluster wants.
func (n *Node) want(ctx context.Context, ops []changeset.Operation) error {
	store, err := n.wishes()
	if err != nil {
		return err
	}
	_, err = store.Change(ctx, n.Now(), n.by(), func(w *cluster.Wanted) error {
		for _, op := range ops {
			if err := n.wantOperation(w, op.Action); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// wantOperation makes one operation part of what is wanted.
func (n *Node) wantOperation(w *cluster.Wanted, a changeset.Action) error {
	switch a := a.(type) {
	case *changeset.SetArgument:
		w.SetArgument(cluster.Argument{Service: a.Service, Option: a.Option, Owner: a.Owner, Value: a.Value, Secret: a.Secret})
	case *changeset.RemoveArgument:
		was := cluster.Argument{Service: a.Service, Option: a.Option, Owner: a.Owner}
		if !w.DropArgument(was) && a.Owner == "" {
			was.Unset = true
			w.SetArgument(was)
		}
	case *changeset.ControlService:
		if a.Action != changeset.Restart {
			return plugin.Errorf(plugin.NotPossible, "to %s %s cannot be wanted of the whole cluster", a.Action, a.Service)
		}
		w.AddRestart(cluster.Restart{Services: []string{a.Service}, At: n.Now().UTC()})
	default:
		return plugin.Errorf(plugin.NotPossible, "an operation of type %T cannot be wanted of the whole cluster", a)
	}
	return nil
}

func (n *Node) activePlugins() ([]cluster.Plugin, error) {
	lock, err := n.Dir.Lock()
	if err != nil {
		return nil, err
	}
	var out []cluster.Plugin
	for _, a := range lock.Active {
		out = append(out, cluster.Plugin{Kind: a.Kind, Name: a.Name, Version: a.Version, Digest: a.Digest, Authority: a.Authority})
	}
	return out, nil
}

// Where says on which nodes something is to be so.
type Where struct {
	All   bool   `json:"all,omitempty"`
	Node  string `json:"node,omitempty"`
	Local bool   `json:"local,omitempty"` // here, whatever the cluster wants
}

// Far reports whether it is more than this command's own node.
func (w Where) Far() bool { return w.All || w.Node != "" }

// checkFar refuses what only a control-plane node may want of others.
func (n *Node) checkFar(ctx context.Context, where Where) error {
	if n.Record.Role != node.ControlPlane {
		return &plugin.Error{Reason: plugin.NotPossible, Message: "a worker cannot change other nodes", Next: "the same command, on a control-plane node"}
	}
	if where.Node == "" {
		return nil
	}
	all, err := n.Members(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(m *cluster.Member) bool { return m.Name == where.Node && m.State == cluster.Joined }) {
		names := make([]string, 0, len(all))
		for _, m := range all {
			names = append(names, m.Name)
		}
		return &UnknownError{NodeUnknown, "node", where.Node, names}
	}
	return nil
}

// wish changes what the cluster wants, as one operation, and answers the
// generation that it has then.
func (n *Node) wish(ctx context.Context, verb string, where Where, params any, change func(*cluster.Wanted) error) (int, error) {
	if err := n.checkFar(ctx, where); err != nil {
		return 0, err
	}
	store, err := n.wishes()
	if err != nil {
		return 0, err
	}
	r, err := n.Journal.Begin(ctx, verb, params)
	if err != nil {
		return 0, err
	}
	generation := 0
	err = r.End(ctx, r.Step(ctx, "write what the cluster wants", func(ctx context.Context) error {
		w, err := store.Change(ctx, n.Now(), n.by(), change)
		if err == nil {
			generation = w.Generation
		}
		return err
	}))
	return generation, err
}

// WishArgument makes an argument wanted on every node, or on one.
func (n *Node) WishArgument(ctx context.Context, o ArgumentOptions, where Where) (int, error) {
	a := cluster.Argument{Node: where.Node, Service: o.Service, Option: o.Option, Owner: cluster.Owner, Value: o.Value}
	shown, digest := o, ""
	if shown.Value = nil; o.Value != nil { // the journal holds no values
		digest = changeset.DigestOf([]byte(*o.Value))
	}
	return n.wish(ctx, "args", where, []any{shown, digest, where}, func(w *cluster.Wanted) error {
		if !o.Unset {
			bare := a
			bare.Owner = "" // "absent" is wanted no more
			w.DropArgument(bare)
			w.SetArgument(a)
			return nil
		}
		if w.DropArgument(a) {
			return nil
		}
		a.Owner, a.Value, a.Unset = "", nil, true
		w.SetArgument(a)
		return nil
	})
}

// WishRestart has services restarted on every node, or on one; control-plane
// nodes do it one after the other.
func (n *Node) WishRestart(ctx context.Context, services []string, where Where) (int, error) {
	for _, s := range services {
		if service.Alias(s) == "cluster-agent" {
			return 0, plugin.Errorf(plugin.NotPossible, "an agent does not restart itself: mk restart cluster-agent, on its node")
		}
	}
	return n.wish(ctx, "restart", where, []any{services, where}, func(w *cluster.Wanted) error {
		w.AddRestart(cluster.Restart{Node: where.Node, Services: services, At: n.Now().UTC()})
		return nil
	})
}

// WishRenewal has certificates renewed on every node, or on one.
func (n *Node) WishRenewal(ctx context.Context, profiles []string, where Where) (int, error) {
	return n.wish(ctx, "refresh-certs", where, []any{profiles, where}, func(w *cluster.Wanted) error {
		w.AddRenewal(cluster.Renewal{Node: where.Node, Profiles: profiles})
		return nil
	})
}

// wishedHere is what this node was told of an option, by what it last applied.
func (n *Node) wishedHere(serviceName, option string) (*cluster.Argument, *held, error) {
	h, err := n.held()
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(h.Arguments, func(a cluster.Argument) bool { return a.Service == serviceName && a.Option == option })
	if i < 0 {
		return nil, h, nil
	}
	return &h.Arguments[i], h, nil
}

// asWished tells whether an args file has what is wanted, and what it has.
func asWished(f *args.File, a cluster.Argument) (same bool, have string) {
	got, ok := f.Get(a.Option)
	switch {
	case !ok:
		return a.Unset, "absent"
	case a.Unset:
		return false, got
	case a.Value == nil:
		return got == "" || got == "true", got
	}
	return got == *a.Value, got
}

func wantText(a cluster.Argument) string {
	switch {
	case a.Unset:
		return "absent"
	case a.Secret:
		return "‹secret›"
	case a.Value == nil:
		return "set"
	}
	return fmt.Sprintf("%.200s", *a.Value)
}
