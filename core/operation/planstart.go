package operation

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/kubeconfig"
	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// PlanStart is the plan of a start: of a first one, the ChangeSet that it
// would apply. It reads and asks no plugin. What one would answer stands as a
// placeholder, with all that its grants let it change.
func PlanStart(ctx context.Context, options Options, o StartOptions) (*Plan, error) {
	if err := Preflight(ctx, options, o); err != nil {
		return nil, err
	}
	n, err := OpenNode(options)
	nowhere := errors.Is(err, ErrNoNode)
	if nowhere {
		n, err = options.open(func(opts node.Options) (*node.Root, error) { return node.Nowhere(options.Root, opts) })
	}
	if err != nil {
		return nil, err
	}
	defer n.Close() //nolint:errcheck // nothing was started
	if err := n.checkEdited(); err != nil {
		return nil, err
	}
	p := &Plan{}
	p.Changes = append(p.Changes, machineLines(n.Root, n.Machine)...)
	if !n.started() {
		if err := n.planFirst(ctx, p, o, nowhere); err != nil {
			return nil, err
		}
	} else if err := n.planAuth(ctx, p, o); err != nil {
		return nil, err
	}
	if err := n.planServices(ctx, p, o); err != nil {
		return nil, err
	}
	if o.NoWait {
		return p, nil
	}
	return p, n.planReady(ctx, p)
}

// planFirst adds what a first start does before the services start.
func (n *Node) planFirst(ctx context.Context, p *Plan, o StartOptions, nowhere bool) error {
	if nowhere {
		p.add("make folder", n.Root.Dir(), "create", "", "certs")
	}
	record, err := n.newRecord(ctx, o)
	if err != nil {
		return err
	}
	n.SetRecord(record)
	p.add("write file", "node.json", "create", "the node "+record.Name+" at "+record.Address, "node.json")
	shipped, err := n.Dir.PlanShipped(n.Programs.Plugins())
	if err != nil {
		return err
	}
	for _, s := range shipped {
		if id := s.Manifest.Identity; s.Missing {
			p.add("install plugin", id.Identity.String()+" "+id.Version, "create", id.Description, "plugins/**", "credentials/*-tokens.txt", "credentials/*-token.txt")
		}
	}
	for _, name := range certs.Names() {
		who := n.signer(name)
		p.add("make authority", name, "create", "‹authority "+name+", by "+who+"›", "plugins/state/"+who+"/**")
		n.Issuer.Remember(certs.Authority{Name: name})
	}
	own, err := n.ownFiles(ctx, n.promiseTokens)
	if err != nil {
		return err
	}
	lines, err := n.Engine.Preview(changeset.ChangeSet{Operations: own})
	if err != nil {
		return err
	}
	p.Changes = append(p.Changes, lines...)
	who, grants := n.answerer(shipped, plugin.KindClustering, "")
	p.add("ask", who, "", "‹the datastore, by "+who+"›", reach(grants)...)
	return nil
}

// reach is all that grants let a plugin change in a node's folder.
func reach(g plugin.Grants) []string {
	out := slices.Clone(g.FilesWrite)
	for _, a := range g.Arguments {
		service, _, _ := strings.Cut(a, "/")
		out = append(out, "args/"+service, "args/.owners.json")
	}
	for _, l := range g.Locks {
		out = append(out, "var/lock/"+l)
	}
	for _, profile := range g.Certificates {
		if p, err := pki.Find(profile); err == nil && p.CertFile() != "" {
			out = append(out, p.CertFile(), p.KeyFile())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// promiseTokens are the files that addTokens makes.
func (n *Node) promiseTokens(add func(changeset.Action)) error {
	for _, f := range kubeconfig.Files() {
		add(&changeset.WriteFile{Path: "credentials/" + f.Name, Content: []byte("‹a token›"), Secret: true})
	}
	add(&changeset.WriteFile{Path: knownTokens, Content: []byte("‹tokens›"), Secret: true})
	return nil
}

// signer names the plugin that signs for an authority: the active one, or that
// which a first start makes active.
func (n *Node) signer(authority string) string {
	shipped, err := n.Dir.PlanShipped(n.Programs.Plugins())
	if err != nil {
		shipped = nil // a node needs the release's folder at its first start only
	}
	who, _ := n.answerer(shipped, plugin.KindCerts, authority)
	return who
}

// answerer is the plugin of a kind that is active, or will be.
func (n *Node) answerer(shipped []pluginsdir.Shipped, kind, authority string) (string, plugin.Grants) {
	if lock, err := n.Dir.Lock(); err == nil {
		if a, ok := lock.ActiveFor(kind, authority); ok {
			return a.Identity.String(), a.Grants
		}
	}
	for _, s := range shipped {
		if id := s.Manifest.Identity.Identity; s.Default && id.Kind == kind {
			return id.String(), s.Manifest.Grants
		}
	}
	return kind, plugin.Grants{}
}

// planServices adds the services that a start starts.
func (n *Node) planServices(ctx context.Context, p *Plan, o StartOptions) error {
	asked, err := n.Requests()
	if err != nil {
		return err
	}
	for _, a := range asked {
		if a.Name != lock.Stopped {
			p.add("follow marker", a.File, "", "it asks "+a.Asks, "node.json", a.File)
		}
	}
	if n.Record.Stopped {
		p.add("write file", "node.json", "replace", "it is not stopped any more", "node.json")
	}
	if _, err := n.Root.Lstat(stoppedLock); err == nil {
		p.add("clear lock", "stopped.lock", "remove", "", stoppedLock)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := n.services.Status(ctx)
	if notRunning(err) != nil {
		return err
	}
	known := map[string]service.Status{}
	for _, st := range list {
		known[st.Name] = st
	}
	for _, name := range n.serviceNames() {
		st, ok := known[name]
		if !up(st.State) {
			p.add(string(changeset.Start)+" service", name, "", "", n.managerPaths(name)...)
		}
		if _, can := n.services.(service.Enabler); can && ok && st.Enabled == o.NoBoot {
			verb := changeset.Enable
			if o.NoBoot {
				verb = changeset.Disable
			}
			p.add(string(verb)+" service", name, "replace", "", n.managerPaths("")...)
		}
	}
	return nil
}

// planReady adds what a start does once the services run.
func (n *Node) planReady(ctx context.Context, p *Plan) error {
	p.Then = []string{"wait for the API server"}
	if _, stamp, err := n.images(); err != nil {
		return err
	} else if have, err := n.Root.ReadFile(imagesDone); err != nil || string(have) != stamp {
		p.add("import images", n.Programs.Images(), "create", "", imagesDone)
	}
	if n.Record.Role == node.ControlPlane {
		if err := n.planSystem(ctx, p); err != nil {
			return err
		}
	}
	p.Then = append(p.Then, "wait for the node")
	return nil
}

// planSystem adds mk's own objects. Of a node that is stopped nobody can tell
// how they are.
func (n *Node) planSystem(ctx context.Context, p *Plan) error {
	a := &changeset.ApplyManifests{Inventory: kube.SystemNamespace, Manifests: systemManifests}
	record := (&kube.Ref{Kind: "ConfigMap", Namespace: kube.SystemNamespace, Name: "node." + n.Record.Name}).String()
	if !n.started() {
		p.add("apply object", "Namespace "+kube.SystemNamespace, "create", "")
		objects, err := kube.ParseManifests(a.Manifests, a.Inventory)
		if err != nil {
			return err
		}
		p.add("apply manifests", a.Inventory, "create", "what mk's own programs may do")
		for _, o := range objects {
			p.add("apply object", o.Ref().String(), "create", "")
		}
		p.add("apply object", "Secret "+kube.SystemNamespace+"/"+cluster.WantedName, "create", "what the cluster wants")
		p.add("apply object", record, "create", "what the cluster knows of this node")
		for _, r := range cluster.GrantRefs(n.Record.Name) {
			p.add("apply object", r.String(), "create", "what this node's agent reports")
		}
		return nil
	}
	running, err := (&serviceChanges{n}).Running(ctx)
	if err != nil {
		return err
	}
	l := change.Line{Verb: "apply manifests", Target: a.Inventory, Why: "what mk's own programs may do"}
	var objects []change.Line
	if running[defaults.Kubelite] {
		if objects, err = n.promiseObjects(ctx, a); err != nil {
			return err
		}
		l.Effect = together(objects)
	}
	p.Changes = append(append(p.Changes, l), objects...)
	p.add("apply object", record, "replace", "when it was seen")
	return nil
}

func (p *Plan) add(verb, target, effect, why string, paths ...string) {
	p.Changes = append(p.Changes, change.Line{Verb: verb, Target: target, Effect: effect, Why: why, Paths: paths})
}

// PlanReset is the plan of Reset.
func (n *Node) PlanReset(ctx context.Context) (*Plan, error) {
	p := &Plan{}
	if n.Record != nil {
		if err := n.planStop(ctx, p); err != nil {
			return nil, err
		}
		p.Then = []string{"remove what pods left"}
	}
	names, err := n.resetNames()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p.add("remove path", name, "remove", "", name, name+"/**")
	}
	for _, k := range n.kernel().Changed() {
		p.add("set kernel setting", strings.ReplaceAll(k.Name, "/", "."), "replace", "as before: "+k.Value)
	}
	for _, name := range append(kubeletLeaves(), n.Root.RunDir()) {
		if _, err := os.Lstat(name); err == nil {
			p.add("remove path", name, "", "")
		}
	}
	return p, nil
}

// resetNames are what stands in the node's folder: all of it goes.
func (n *Node) resetNames() ([]string, error) {
	entries, err := n.Root.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, nil
}
