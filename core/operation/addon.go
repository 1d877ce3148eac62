package operation

import (
	"context"
	"fmt"
	"slices"

	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// AddonOptions say which addon, and how.
type AddonOptions struct {
	Addon     string            `json:"addon"`
	Enable    bool              `json:"enable"`
	Arguments []string          `json:"arguments,omitempty"`
	Values    map[string]string `json:"values,omitempty"`
	NoWait    bool              `json:"noWait,omitempty"`
}

// Offered is an addon and the plugin that offers it.
type Offered struct {
	addons.Addon
	Plugin plugin.Identity             `json:"plugin"`
	Probe  []changeset.ObjectReference `json:"probe,omitempty"`
}

// Addons lists what the active addons plugins offer, from what they said when
// they became active: no plugin is started.
func (n *Node) Addons() ([]Offered, error) {
	lock, err := n.Dir.Lock()
	if err != nil {
		return nil, err
	}
	var out []Offered
	for _, a := range lock.Active {
		if a.Kind != plugin.KindAddons {
			continue
		}
		said, err := n.Dir.LoadDescribed(a.Digest)
		if err == nil && said == nil {
			err = &plugin.Error{Reason: plugin.NotPossible, Message: "it was never asked", Next: "sudo mk start"}
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: what it offers is not known: %w", a.String(), a.Version, err)
		}
		for _, addon := range said.Addons {
			out = append(out, Offered{Addon: addon, Plugin: said.Description.Identity, Probe: said.Probes[addon.Name]})
		}
	}
	slices.SortFunc(out, func(a, b Offered) int { return compare(a.Name, b.Name) })
	return out, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// FindAddon is the addon of a name.
func (n *Node) FindAddon(name string) (Offered, error) {
	all, err := n.Addons()
	if err != nil {
		return Offered{}, err
	}
	names := make([]string, 0, len(all))
	for _, a := range all {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return Offered{}, &UnknownError{plugin.AddonUnknown, "addon", name, names}
}

// SetAddon enables or disables an addon: what its plugin answers is applied.
func (n *Node) SetAddon(ctx context.Context, o AddonOptions) error {
	verb := "disable"
	if o.Enable {
		verb = "enable"
	}
	a, err := n.FindAddon(o.Addon)
	if err != nil {
		return err
	}
	r, err := n.Journal.Begin(ctx, verb, o)
	if err != nil {
		return err
	}
	return r.End(ctx, r.Step(ctx, verb+" "+o.Addon, func(ctx context.Context) error {
		p, who, err := n.Plugins.Addons(ctx, a.Plugin.Name)
		if err != nil {
			return err
		}
		return r.Ask(ctx, "plan", who, n.asker(p, who, o), withoutWaits(o.NoWait))
	}))
}

// PlanAddon is what SetAddon would apply. Plan changes nothing anywhere, so it
// may be asked for a dry run.
func (n *Node) PlanAddon(ctx context.Context, o AddonOptions) (plugin.Answer, error) {
	a, err := n.FindAddon(o.Addon)
	if err != nil {
		return plugin.Answer{}, err
	}
	p, who, err := n.Plugins.Addons(ctx, a.Plugin.Name)
	if err != nil {
		return plugin.Answer{}, err
	}
	answer, err := n.asker(p, who, o)(ctx, plugin.Call{})
	if err != nil {
		return plugin.Answer{}, err
	}
	answer.Changes = ownInventories(answer.Changes, who)
	return answer, n.CheckGrants(answer.Changes, who)
}

func (n *Node) asker(p addons.Plugin, who plugin.Identity, o AddonOptions) func(context.Context, plugin.Call) (plugin.Answer, error) {
	return func(ctx context.Context, call plugin.Call) (plugin.Answer, error) {
		grants, err := n.grantsOf(who)
		if err != nil {
			return plugin.Answer{}, err
		}
		facts, err := n.Facts(ctx, grants)
		if err != nil {
			return plugin.Answer{}, err
		}
		return p.Plan(ctx, addons.PlanRequest{
			Call: call, Node: facts, Addon: o.Addon, Enable: o.Enable, Arguments: o.Arguments, Values: o.Values,
		})
	}
}

func withoutWaits(drop bool) func(changeset.ChangeSet) (changeset.ChangeSet, error) {
	return func(cs changeset.ChangeSet) (changeset.ChangeSet, error) {
		if !drop {
			return cs, nil
		}
		var out changeset.ChangeSet
		for _, op := range cs.Operations {
			if _, ok := op.Action.(*changeset.Wait); !ok {
				out.Operations = append(out.Operations, op)
			}
		}
		return out, nil
	}
}

// DescribeActive keeps what active plugins say, so that commands that only
// read start none. Those that are asked start at once.
func (n *Node) DescribeActive(ctx context.Context) error {
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	var asked []lockfile.Installed
	var kinds []string
	for _, a := range lock.Active {
		said, err := n.Dir.LoadDescribed(a.Digest)
		if err != nil {
			return err
		}
		entry, ok := lock.Find(a.Digest)
		if said == nil && ok && !slices.ContainsFunc(asked, func(e lockfile.Installed) bool { return e.Digest == a.Digest }) {
			asked, kinds = append(asked, entry), append(kinds, entry.Kind)
		}
	}
	n.Prefetch(ctx, kinds...)
	for _, entry := range asked {
		said, err := n.describe(ctx, lock, entry)
		if err != nil {
			return err
		}
		if err := n.Dir.SaveDescribed(entry.Digest, said); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) describe(ctx context.Context, lock *lockfile.Lock, entry lockfile.Installed) (*pluginsdir.Described, error) {
	m, err := n.Dir.Manifest(entry)
	if err != nil {
		return nil, err
	}
	said, err := n.Plugins.Described(ctx, lock, entry)
	if err != nil {
		return nil, err
	}
	return said, pluginsdir.CheckDescribed(m, said)
}
