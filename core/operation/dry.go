package operation

import (
	"context"
	"slices"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// managerFile is where the embedded supervisor keeps what runs, and how.
const managerFile = "var/services.json"

// preview is the plan of a ChangeSet: verbs and names, no value. What is not on
// the disk is asked for: which services run, and how the cluster's objects are.
func (n *Node) preview(ctx context.Context, cs changeset.ChangeSet, then ...string) (*Plan, error) {
	lines, err := n.Engine.Preview(cs)
	if err != nil {
		return nil, err
	}
	p := &Plan{Then: then}
	for i, op := range cs.Operations {
		l := lines[i]
		var more []change.Line
		switch a := op.Action.(type) {
		case *changeset.ControlService:
			err = n.promiseService(ctx, &l, a)
		case *changeset.ApplyManifests:
			more, err = n.promiseObjects(ctx, a)
		case *changeset.DeleteManifests:
			more, err = n.promiseDeletion(ctx, a.Inventory)
		case *changeset.ActivatePlugin:
			l.Paths = append(l.Paths, activationPaths(a)...)
		}
		if err != nil {
			return nil, err
		}
		if more != nil {
			l.Effect = together(more)
		}
		p.Changes = append(append(p.Changes, l), more...)
	}
	return p, nil
}

// together is what the changes of objects come down to.
func together(lines []change.Line) string {
	effects := map[string]bool{}
	for _, l := range lines {
		effects[l.Effect] = true
	}
	delete(effects, "nothing")
	for effect := range effects {
		if len(effects) == 1 {
			return effect
		}
		return "replace"
	}
	return "nothing"
}

// activationPaths are what a plugin that becomes active may bring: its state,
// and the links by which people find its files.
func activationPaths(a *changeset.ActivatePlugin) []string {
	out := []string{"plugins/state/" + a.Kind + "/" + a.Name + "/**"}
	if a.Kind == plugin.KindTokens {
		out = append(out, "credentials/*-tokens.txt", "credentials/*-token.txt")
	}
	return out
}

// promiseService says whether controlling a service changes anything.
func (n *Node) promiseService(ctx context.Context, l *change.Line, a *changeset.ControlService) error {
	running, err := (&serviceChanges{n}).Running(ctx)
	if err != nil {
		return err
	}
	up := running[service.Alias(a.Service)]
	if (a.Action == changeset.Start && up) || (!up && (a.Action == changeset.Stop || a.Action == changeset.Restart)) {
		l.Effect = "nothing"
		return nil
	}
	l.Paths = n.managerPaths(a.Service)
	return nil
}

// managerPaths are the files that change when a service starts or stops.
func (n *Node) managerPaths(name string) []string {
	var out []string
	if n.Embedded() {
		out = append(out, managerFile)
	}
	if name == "containerd" {
		// It renders its network's configuration from the template beside it.
		out = append(out, "args/cni-network/10-containerd-net.conflist*")
	}
	return out
}

// promiseObjects says what applying manifests does to each object.
func (n *Node) promiseObjects(ctx context.Context, a *changeset.ApplyManifests) ([]change.Line, error) {
	objects, err := kube.ParseManifests(a.Manifests, a.Inventory)
	if err != nil {
		return nil, err
	}
	c, err := n.Kube()
	if err != nil {
		return nil, err
	}
	got, err := c.Apply(ctx, kube.ApplyRequest{Inventory: a.Inventory, Objects: objects, Prune: true, DryRun: true})
	return objectLines(got), err
}

// promiseDeletion says what goes with an inventory.
func (n *Node) promiseDeletion(ctx context.Context, inventory string) ([]change.Line, error) {
	c, err := n.Kube()
	if err != nil {
		return nil, err
	}
	got, err := c.Delete(ctx, inventory, kube.DeleteOptions{DryRun: true})
	return objectLines(got), err
}

func objectLines(r kube.Result) []change.Line {
	out := make([]change.Line, 0, len(r.Changes))
	for _, c := range r.Changes {
		l := change.Line{Verb: "apply object", Target: c.Ref.String(), Effect: "nothing"}
		switch c.Action {
		case kube.Create:
			l.Effect = "create"
		case kube.Update:
			l.Effect = "replace"
		case kube.Delete:
			l.Verb, l.Effect = "delete object", "remove"
		case kube.Gone, kube.Kept:
			l.Verb, l.Why = "delete object", "it is "+string(c.Action)
		}
		out = append(out, l)
	}
	return out
}

// DryAddon is the plan of SetAddon.
func (n *Node) DryAddon(ctx context.Context, o AddonOptions) (*Plan, error) {
	answer, err := n.PlanAddon(ctx, o)
	if err != nil {
		return nil, err
	}
	var then []string
	if !answer.Next.IsZero() {
		then = append(then, answer.Next.Name)
	}
	cs, err := withoutWaits(o.NoWait)(answer.Changes)
	if err != nil {
		return nil, err
	}
	return n.preview(ctx, cs, then...)
}

// DryRenew is the plan of Renew.
func (n *Node) DryRenew(ctx context.Context, o RenewOptions) (*Plan, error) {
	cs, err := n.Renewal(o)
	if err != nil {
		return nil, err
	}
	return n.preview(ctx, cs)
}

// DryArgument is the plan of SetArgument.
func (n *Node) DryArgument(ctx context.Context, o ArgumentOptions) (*Plan, error) {
	cs, err := n.argumentChange(o)
	if err != nil {
		return nil, err
	}
	so, err := n.already(cs)
	if err != nil {
		return nil, err
	}
	if so {
		return &Plan{Then: []string{"nothing: it is so already"}}, nil
	}
	return n.preview(ctx, cs)
}

// DryUse is the plan of UsePlugin.
func (n *Node) DryUse(ctx context.Context, kind, name, constraint, authority string) (*Plan, error) {
	lock, err := n.Dir.Lock()
	if err != nil {
		return nil, err
	}
	_, flips, err := lockfile.PlanActivate(lock, lockfile.Activation{
		Kind: kind, Name: name, Constraint: constraint, Authority: authority, By: n.User, At: n.Now().UTC(),
	})
	return n.dryFlips(ctx, flips, err)
}

// DryRollback is the plan of RollbackPlugin.
func (n *Node) DryRollback(ctx context.Context, kind, name string) (*Plan, error) {
	lock, err := n.Dir.Lock()
	if err != nil {
		return nil, err
	}
	_, flips, err := lockfile.PlanRollback(lock, kind, name, n.User, n.Now().UTC())
	return n.dryFlips(ctx, flips, err)
}

func (n *Node) dryFlips(ctx context.Context, flips []lockfile.Flip, err error) (*Plan, error) {
	if err == nil {
		err = n.flippable(flips)
	}
	if err != nil {
		return nil, err
	}
	return n.preview(ctx, FlipChanges(flips))
}

// DryRemove is the plan of RemovePlugin.
func (n *Node) DryRemove(kind, name, constraint string) (*Plan, error) {
	lock, err := n.Dir.Lock()
	if err != nil {
		return nil, err
	}
	_, gone, err := lockfile.PlanRemove(lock, kind, name, constraint, nil)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	for _, g := range gone {
		p.add("remove plugin", g.Identity.String()+" "+g.Version, "remove", "", "plugins/**")
	}
	return p, nil
}

// DryStop is the plan of Stop.
func (n *Node) DryStop(ctx context.Context, o StopOptions) (*Plan, error) {
	p := &Plan{}
	if !n.Record.Stopped {
		p.add("write file", "node.json", "replace", "it is stopped", "node.json")
	}
	if _, err := n.Root.Lstat(stoppedLock); err != nil {
		p.add("set lock", "stopped.lock", "create", "", stoppedLock)
	}
	if err := n.planStop(ctx, p); err != nil {
		return nil, err
	}
	if o.Drain {
		p.Then = append(p.Then, "drain the node, before its services stop")
	}
	p.Then = append(p.Then, "remove what pods left")
	return p, nil
}

// planStop adds the services that run, in the order in which they stop.
func (n *Node) planStop(ctx context.Context, p *Plan) error {
	running, err := (&serviceChanges{n}).Running(ctx)
	if err != nil {
		return err
	}
	for _, s := range slices.Backward(n.serviceNames()) {
		if running[s] {
			p.add(string(changeset.Stop)+" service", s, "", "", n.managerPaths(s)...)
		}
	}
	return nil
}

// DryRestart is the plan of Restart.
func (n *Node) DryRestart(names ...string) *Plan {
	p := &Plan{}
	if len(names) == 0 {
		names = n.serviceNames()
	}
	for _, s := range names {
		p.add(string(changeset.Restart)+" service", service.Alias(s), "", "", n.managerPaths(s)...)
	}
	return p
}
