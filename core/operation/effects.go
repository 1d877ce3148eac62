package operation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// serviceChanges lets a ChangeSet control the node's services.
type serviceChanges struct{ n *Node }

var _ change.Services = (*serviceChanges)(nil)

// Start starts services with the arguments that are on disk.
func (s *serviceChanges) Start(ctx context.Context, names ...string) error {
	if err := s.n.refreshServices(ctx); err != nil {
		return err
	}
	s.n.restarting(names...)
	return s.n.services.Start(ctx, names...)
}

// Stop stops services.
func (s *serviceChanges) Stop(ctx context.Context, names ...string) error {
	return notRunning(s.n.services.Stop(ctx, names...))
}

// Restart restarts services with the arguments that are on disk. Those that
// do not run stay down: a stopped node is not started by a change.
func (s *serviceChanges) Restart(ctx context.Context, names ...string) error {
	running, err := s.Running(ctx)
	if err != nil {
		return err
	}
	var up []string
	for _, name := range names {
		if running[service.Alias(name)] {
			up = append(up, service.Alias(name))
		}
	}
	if len(up) == 0 {
		return nil
	}
	if err := s.n.refreshServices(ctx); err != nil {
		return err
	}
	s.n.restarting(up...)
	return s.n.services.Restart(ctx, up...)
}

// Running reports which services are meant to run.
func (s *serviceChanges) Running(ctx context.Context) (map[string]bool, error) {
	list, err := s.n.services.Status(ctx)
	if errors.Is(err, service.ErrNotRunning) {
		return map[string]bool{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, st := range list {
		out[st.Name] = up(st.State)
	}
	return out, nil
}

// up reports whether a service in this state is meant to run.
func up(s service.State) bool { return s != "" && s != service.Stopped && s != service.Failed }

// Boot sets whether services come back with the machine.
func (s *serviceChanges) Boot(ctx context.Context, on bool, names ...string) error {
	e, ok := s.n.services.(service.Enabler)
	if !ok {
		return nil
	}
	if on {
		return e.Enable(ctx, names...)
	}
	return e.Disable(ctx, names...)
}

func notRunning(err error) error {
	if errors.Is(err, service.ErrNotRunning) {
		return nil
	}
	return err
}

// refreshServices gives the service manager the definitions that the args
// files on disk make.
func (n *Node) refreshServices(ctx context.Context) error {
	defs, err := n.definitions()
	if err != nil {
		return err
	}
	return n.services.Apply(ctx, defs)
}

// StartFirst starts services that the others wait for.
func (n *Node) StartFirst(ctx context.Context, names ...string) error {
	if err := n.beforeServices(ctx); err != nil {
		return err
	}
	return n.services.Start(ctx, names...)
}

// definitions leaves the agent out where it lives in the supervisor.
func (n *Node) definitions() ([]service.Definition, error) {
	defs, err := n.Defaults().Definitions(n.Executable)
	if err != nil || !n.Embedded() {
		return defs, err
	}
	out := defs[:0]
	for _, d := range defs {
		if d.Name != defaults.Agent {
			out = append(out, d)
		}
	}
	return out, nil
}

// serviceNames are the services of this node as its manager knows them.
func (n *Node) serviceNames() []string {
	var out []string
	for _, s := range defaults.ServicesOf(n.Record) {
		if (s != defaults.Agent || !n.Embedded()) && !slices.Contains(n.Record.Off, s) {
			out = append(out, s)
		}
	}
	return out
}

// objectChanges lets a ChangeSet change what is in the cluster.
type objectChanges struct{ n *Node }

var _ change.Objects = (*objectChanges)(nil)

// ApplyManifests applies objects under an inventory.
func (o *objectChanges) ApplyManifests(ctx context.Context, m changeset.ApplyManifests) error {
	objects, err := kube.ParseManifests(m.Manifests, m.Inventory)
	if err != nil {
		return err
	}
	c, err := o.n.Kube()
	if err != nil {
		return err
	}
	_, err = c.Apply(ctx, kube.ApplyRequest{Inventory: m.Inventory, Objects: objects, Prune: true, Progress: o.n.detail})
	return err
}

// DeleteManifests deletes the objects of an inventory.
func (o *objectChanges) DeleteManifests(ctx context.Context, m changeset.DeleteManifests) error {
	c, err := o.n.Kube()
	if err != nil {
		return err
	}
	_, err = c.Delete(ctx, m.Inventory, kube.DeleteOptions{Progress: o.n.detail})
	return err
}

// Want makes operations part of what the cluster wants.
func (o *objectChanges) Want(ctx context.Context, ops []changeset.Operation) error {
	return o.n.want(ctx, ops)
}

const (
	defaultWait = 5 * time.Minute
	maxWait     = 30 * time.Minute
)

// Wait waits until what a ChangeSet names is so.
func (o *objectChanges) Wait(ctx context.Context, w changeset.Wait, progress func(string)) error {
	timeout := w.Timeout
	if timeout <= 0 {
		timeout = defaultWait
	}
	ctx, cancel := context.WithTimeout(ctx, min(timeout, maxWait))
	defer cancel()
	switch {
	case w.Service != "":
		return o.n.services.Start(ctx, service.Alias(w.Service))
	case w.Address != "":
		return waitAddress(ctx, w.Address)
	case w.Node != "":
		c, err := o.n.Kube()
		if err != nil {
			return err
		}
		return c.WaitNode(ctx, w.Node, time.Time{}, progress)
	case w.Object != nil:
		c, err := o.n.Kube()
		if err != nil {
			return err
		}
		return c.WaitHealthy(ctx, []kube.ProbeTarget{refOf(*w.Object)}, progress)
	}
	return o.n.waitMember(ctx, w, progress)
}

func refOf(o changeset.ObjectReference) kube.Ref {
	return kube.Ref{Group: o.Group, Version: o.Version, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
}

// pluginChanges computes the lock file that makes plugins active.
type pluginChanges struct{ n *Node }

var _ change.Plugins = (*pluginChanges)(nil)

// Activate makes plugins active, all at once.
func (p *pluginChanges) Activate(_ context.Context, all []changeset.ActivatePlugin) (change.File, error) {
	lock, err := p.n.Dir.Lock()
	if err != nil {
		return change.File{}, err
	}
	for _, a := range all {
		if lock, err = lock.Activate(a.Kind, a.Name, a.Digest, a.Authority, p.n.User, p.n.Now().UTC()); err != nil {
			return change.File{}, err
		}
	}
	return change.File{Path: "plugins/lock.json", Content: lock.Bytes(), Mode: 0o640, Secret: true}, nil
}

// CheckGrants judges what a plugin answered against what it was granted.
func (n *Node) CheckGrants(cs changeset.ChangeSet, by plugin.Identity) error {
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	for _, i := range lock.Installed {
		if i.Identity.Kind == by.Kind && i.Identity.Name == by.Name && i.Identity.Version == by.Version {
			class, _ := manifest.Classify(i.Kind, i.Grants)
			return change.Check(cs, i.Grants, func(text []byte, g []plugin.ObjectGrant) error {
				return checkObjects(text, g, class)
			})
		}
	}
	return fmt.Errorf("%s %s is not installed", by, by.Version)
}

// ServeChanges applies a ChangeSet for another node: under the apply lock
// only, so that no node waits for another's operation.
func (n *Node) ServeChanges(ctx context.Context, verb, id string, cs changeset.ChangeSet) error {
	if len(cs.Operations) == 0 {
		return nil
	}
	r, err := n.Journal.serve(verb, id)
	if err != nil {
		return err
	}
	return r.End(ctx, r.Apply(ctx, cs))
}
