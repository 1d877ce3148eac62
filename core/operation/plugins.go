package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// InstallPlugin puts the plugin in a folder into the store, after it was
// tried in its cell. It activates nothing.
func (n *Node) InstallPlugin(ctx context.Context, folder string, reinstall bool, consent func(*pluginsdir.Proposal) error) (*pluginsdir.Result, error) {
	r, err := n.Journal.Begin(ctx, "plugin install", folder)
	if err != nil {
		return nil, err
	}
	var result *pluginsdir.Result
	err = r.Step(ctx, "install the plugin", func(ctx context.Context) error {
		result, err = n.Dir.Install(ctx, folder, pluginsdir.Options{
			Host: HostContracts(n.Version), By: n.User, At: n.Now().UTC(), Reinstall: reinstall,
			Consent: consent, Trial: n.set,
		})
		return err
	})
	return result, r.End(ctx, err)
}

// DryInstall is the plan of InstallPlugin. It reads the plugin's folder only:
// the node's need not be there, and is not made.
func DryInstall(ctx context.Context, o Options, folder string) (*Plan, error) {
	p, err := pluginsdir.Propose(ctx, folder, HostContracts(o.Version))
	if err != nil {
		return nil, err
	}
	id := p.Manifest.Identity
	plan := &Plan{Changes: []change.Line{{Verb: "install plugin", Target: id.Identity.String() + " " + id.Version, Effect: "create", Why: string(p.Class)}}}
	for _, g := range p.Grants {
		plan.Then = append(plan.Then, "it may "+g)
	}
	return plan, nil
}

// ErrAuthorityInUse says that an authority cannot be exchanged like this.
var ErrAuthorityInUse = errors.New("the cluster trusts it: exchanging it is a rotation, which this version of mk does not have")

// UsePlugin makes an installed plugin the active one.
func (n *Node) UsePlugin(ctx context.Context, kind, name, constraint, authority string) ([]lockfile.Flip, error) {
	var lock *lockfile.Lock
	plan := func() (flips []lockfile.Flip, err error) {
		if lock, err = n.Dir.Lock(); err == nil {
			_, flips, err = lockfile.PlanActivate(lock, lockfile.Activation{
				Kind: kind, Name: name, Constraint: constraint, Authority: authority, By: n.User, At: n.Now().UTC(),
			})
		}
		return flips, err
	}
	flips, err := plan()
	if err != nil {
		return nil, err
	}
	if len(flips) == 0 {
		// A process that was killed may have flipped it and done no more.
		done, err := n.flipped(lock, "plugin use")
		if err != nil || done {
			return nil, err
		}
	}
	// Planned once more when it begins: what was interrupted may be flipped by then.
	return flips, n.flip(ctx, "plugin use", []string{kind, name, constraint, authority}, flips, plan)
}

// RollbackPlugin makes active what was active before.
func (n *Node) RollbackPlugin(ctx context.Context, kind, name string) ([]lockfile.Flip, error) {
	const verb = "plugin rollback"
	open, err := n.Journal.Open()
	if err != nil {
		return nil, err
	}
	var flips []lockfile.Flip
	if open != nil && open.Verb == verb {
		// A process that was killed may have flipped it: to compute the flip
		// again would take it back.
		if err := json.Unmarshal(open.Params, &flips); err != nil {
			return nil, fmt.Errorf("read change %d: %w", open.Number, err)
		}
	}
	others := func(f lockfile.Flip) bool { return f.Kind != kind || f.From.Name != name }
	if len(flips) == 0 || slices.ContainsFunc(flips, others) {
		lock, err := n.Dir.Lock()
		if err != nil {
			return nil, err
		}
		_, flips, err = lockfile.PlanRollback(lock, kind, name, n.User, n.Now().UTC())
		if err != nil || len(flips) == 0 {
			return nil, err
		}
	}
	return flips, n.flip(ctx, verb, flips, flips, func() ([]lockfile.Flip, error) { return flips, nil })
}

// flipped reports whether nothing of a flip is left to do: no operation of
// that verb stands open, and all that is active has said what it is.
func (n *Node) flipped(lock *lockfile.Lock, verb string) (bool, error) {
	open, err := n.Journal.Open()
	if err != nil || (open != nil && open.Verb == verb) {
		return false, err
	}
	for _, a := range lock.Active {
		if said, err := n.Dir.LoadDescribed(a.Digest); err != nil || said == nil {
			return false, err
		}
	}
	return true, nil
}

// FlipChanges are the operations of a flip.
func FlipChanges(flips []lockfile.Flip) changeset.ChangeSet {
	var cs changeset.ChangeSet
	for _, f := range flips {
		cs.Operations = append(cs.Operations, changeset.Operation{Action: &changeset.ActivatePlugin{
			Kind: f.Kind, Name: f.To.Name, Digest: f.To.Digest, Authority: f.Authority,
		}})
	}
	return cs
}

// flip is for flips, and does those that plan answers when it has begun.
func (n *Node) flip(ctx context.Context, verb string, params any, flips []lockfile.Flip, plan func() ([]lockfile.Flip, error)) error {
	if err := n.flippable(flips); err != nil {
		return err
	}
	r, err := n.Journal.Begin(ctx, verb, params)
	if err != nil {
		return err
	}
	return r.End(ctx, r.Step(ctx, verb, func(ctx context.Context) error {
		left, err := plan()
		if err == nil {
			err = n.flippable(left) // the node may have been started meanwhile
		}
		if err == nil {
			err = r.Apply(ctx, FlipChanges(left))
		}
		if err != nil {
			return err
		}
		if err := n.linkTokens(); err != nil {
			return err
		}
		return n.DescribeActive(ctx)
	}))
}

// flippable refuses to exchange an authority that a cluster trusts.
func (n *Node) flippable(flips []lockfile.Flip) error {
	for _, f := range flips {
		if n.started() && f.Kind == plugin.KindCerts && f.From.Name != f.To.Name {
			return fmt.Errorf("certs/%s for %s: %w", f.To.Name, f.Authority, ErrAuthorityInUse)
		}
	}
	return nil
}

// started reports whether the node was ever started.
func (n *Node) started() bool { return n.Record != nil && n.Record.ClusterID != "" }

// RemovePlugin removes installed versions that nothing uses.
func (n *Node) RemovePlugin(ctx context.Context, kind, name, constraint string) ([]lockfile.Installed, error) {
	r, err := n.Journal.Begin(ctx, "plugin remove", []string{kind, name, constraint})
	if err != nil {
		return nil, err
	}
	var gone []lockfile.Installed
	err = r.Step(ctx, "remove the plugin", func(ctx context.Context) error {
		lock, err := n.Dir.Lock()
		if err != nil {
			return err
		}
		next, removed, err := lockfile.PlanRemove(lock, kind, name, constraint, nil)
		if err != nil {
			return err
		}
		if err := n.Dir.WriteLock(next); err != nil {
			return err
		}
		gone = removed
		_, err = n.Dir.Sweep(ctx)
		return err
	})
	return gone, r.End(ctx, err)
}
