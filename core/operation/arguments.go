package operation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// ArgumentOptions say which argument to set or unset.
type ArgumentOptions struct {
	Service string  `json:"service"`
	Option  string  `json:"option"`
	Value   *string `json:"value,omitempty"`
	Unset   bool    `json:"unset,omitempty"`
	// Local is what somebody wants here although the cluster wants otherwise.
	// Without it, that is refused.
	Local bool `json:"local,omitempty"`
}

// ClusterWants is the reason of a change that would not last.
const ClusterWants plugin.Reason = "CLUSTER_WANTS"

func (o ArgumentOptions) changes() changeset.ChangeSet {
	var a changeset.Action = &changeset.SetArgument{Service: o.Service, Option: o.Option, Value: o.Value}
	if o.Unset {
		a = &changeset.RemoveArgument{Service: o.Service, Option: o.Option}
	}
	ops := []changeset.Operation{{Action: a}}
	if s := serviceOf(o.Service); s != "" {
		ops = append(ops, changeset.Operation{Action: &changeset.ControlService{Service: s, Action: changeset.Restart}})
	}
	return changeset.ChangeSet{Operations: ops}
}

// serviceOf is the service that reads an args file; none reads ctr's.
func serviceOf(file string) string {
	switch file {
	case "kubectl", "ctr":
		return ""
	case "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy":
		return "kubelite"
	}
	return file
}

// SetArgument sets or unsets an argument on this node and restarts what reads
// it, and answers the change's number: AwaitWell waits until the node works with
// it. What is so already is left alone, and nothing restarts: the number is 0.
func (n *Node) SetArgument(ctx context.Context, o ArgumentOptions) (int, error) {
	cs, err := n.argumentChange(o)
	if err != nil {
		return 0, err
	}
	if so, err := n.already(cs); err != nil || so {
		return 0, err
	}
	r, err := n.Journal.Begin(ctx, "args", o)
	if err != nil {
		return 0, err
	}
	err = r.End(ctx, r.Step(ctx, "change the argument", func(ctx context.Context) error {
		for range maxAsked {
			cs, err := n.argumentChange(o)
			if err != nil {
				return err
			}
			if err = r.Apply(ctx, cs); !errors.Is(err, change.ErrStale) {
				return err
			}
		}
		return fmt.Errorf("args/%s: %w", o.Service, change.ErrStale)
	}))
	if err == nil && o.Local {
		n.ReportSoon(ctx)
	}
	return r.Record.Number, err
}

// already reports whether the files are as a change would have them. One that
// was interrupted stands open: its service may not have restarted yet.
func (n *Node) already(cs changeset.ChangeSet) (bool, error) {
	if open, err := n.Journal.Open(); err != nil || open != nil {
		return false, err
	}
	lines, err := n.Engine.Preview(cs)
	if err != nil {
		return false, err
	}
	for i, op := range cs.Operations {
		if _, restart := op.Action.(*changeset.ControlService); !restart && lines[i].Effect != "nothing" {
			return false, nil
		}
	}
	return true, nil
}

// argumentChange is what changes an argument here. Where the cluster wants it
// otherwise, that is noted, so that it stays; to unset what was noted makes it
// as the cluster wants it.
func (n *Node) argumentChange(o ArgumentOptions) (changeset.ChangeSet, error) {
	a, h, err := n.wishedHere(o.Service, o.Option)
	if err != nil || a == nil {
		return o.changes(), err
	}
	if !o.Local {
		return changeset.ChangeSet{}, &plugin.Error{Reason: ClusterWants,
			Message: fmt.Sprintf("the cluster wants %s --%s to be %s", o.Service, o.Option, wantText(*a)),
			Next:    "--all-nodes changes that for every node, --node for one; --local makes it otherwise here, which is shown as drift"}
	}
	same := func(l cluster.Argument) bool { return l.Service == o.Service && l.Option == o.Option }
	noted := slices.ContainsFunc(h.Local, same)
	h.Local = slices.DeleteFunc(h.Local, same)
	cs := o.changes()
	if o.Unset && noted {
		if !a.Unset {
			cs.Operations[0].Action = &changeset.SetArgument{Service: a.Service, Option: a.Option, Owner: a.Owner, Value: a.Value, Secret: a.Secret}
		}
	} else {
		h.Local = append(h.Local, cluster.Argument{Service: o.Service, Option: o.Option, Generation: h.Generation})
	}
	keep, err := h.write()
	cs.Operations = append(cs.Operations, keep)
	return cs, err
}

// ArgumentFiles are the services that have an args file.
func (n *Node) ArgumentFiles() []string {
	var out []string
	for _, s := range args.Services() {
		if _, err := os.Stat(n.Root.Args(s)); err == nil {
			out = append(out, s)
		}
	}
	return out
}
