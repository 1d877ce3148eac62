package operation

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/netinfo"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service/supervisor"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

// StartOptions are what a start may be told. All but Boot and NoWait count
// for the first start only; later they must agree with the node's record.
type StartOptions struct {
	Name        string `json:"name,omitempty"`
	Address     string `json:"address,omitempty"`
	PodCIDR     string `json:"podCIDR,omitempty"`
	ServiceCIDR string `json:"serviceCIDR,omitempty"`
	CNI         string `json:"cni,omitempty"`
	Auth        string `json:"auth,omitempty"`
	NoBoot      bool   `json:"noBoot,omitempty"` // do not come back with the machine
	NoWait      bool   `json:"noWait,omitempty"`
}

// Start starts the node; the first time it makes it. It returns when the node
// is Ready, or, with NoWait, when its services run.
func (n *Node) Start(ctx context.Context, o StartOptions) error {
	if err := errors.Join(n.Outdated(), n.checkEdited()); err != nil {
		return err
	}
	if n.started() {
		if err := n.fixed(o); err != nil {
			return err
		}
	}
	r, err := n.Journal.Begin(ctx, "start", o)
	if err != nil {
		return err
	}
	anew, err := n.otherWords(r, o)
	if err != nil && n.started() {
		return r.End(ctx, err)
	}
	if err != nil {
		return errors.Join(err, r.Release())
	}
	if anew {
		if err := r.GiveUp("a start with other words was begun in its place"); err != nil {
			return err
		}
		o.Address = cmp.Or(o.Address, n.Record.Address) // all else that was said stands in the record
		if r, err = n.Journal.Begin(ctx, "start", o); err != nil {
			return err
		}
	}
	return r.End(ctx, n.start(ctx, r, o))
}

// otherWords reports whether a first start that was interrupted is to be begun
// anew, because other words than its own decide what the node is. Once it has
// asked for changes they cannot: files hold the old ones.
func (n *Node) otherWords(r *Run, o StartOptions) (anew bool, err error) {
	switch {
	case n.Record == nil:
		return false, nil
	case n.started(): // maybe by who held the lock until now
		return false, n.fixed(o)
	case !slices.ContainsFunc(r.Record.Steps, func(s StepRecord) bool { return s.Name == identifying && !s.Ended.IsZero() }):
		return false, nil
	}
	if err := checkOptions(o); err != nil {
		return false, err
	}
	err = n.fixed(o)
	if r.Record.Changes > 0 {
		return false, err
	}
	return err != nil || n.switchesAuth(o), nil
}

// identifying is the step after which a node is what its first start was told.
const identifying = "find out name and addresses"

func (n *Node) start(ctx context.Context, r *Run, o StartOptions) error {
	if !n.started() {
		if err := n.first(ctx, r, o); err != nil {
			return err
		}
	}
	if err := n.switchAuth(ctx, r, o); err != nil {
		return err
	}
	err := r.Step(ctx, "start the services", func(ctx context.Context) error {
		if err := n.followRequests(ctx, r); err != nil {
			return err
		}
		return n.StartServices(ctx, o)
	})
	if err != nil {
		return err
	}
	if o.NoWait {
		return nil
	}
	return n.BecomeReady(ctx, r)
}

// first makes the node: identity, plugins, authorities, datastore, files.
func (n *Node) first(ctx context.Context, r *Run, o StartOptions) error {
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{identifying, func(ctx context.Context) error { return n.Identify(ctx, o) }},
		{"install the plugins", n.InstallShipped},
		{"ask the plugins what they offer", n.DescribeActive},
		{"make the authorities", func(ctx context.Context) error { return n.Bootstrap(ctx, r) }},
		{"write the node's files", func(ctx context.Context) error { return n.Configure(ctx, r) }},
	}
	for _, s := range steps {
		if err := r.Step(ctx, s.name, s.do); err != nil {
			return err
		}
	}
	// From here on the node exists: the next start takes it as it is.
	n.Record.ClusterID = r.Record.ID
	return n.Root.SaveRecord(n.Record)
}

// Identify writes the node's record.
func (n *Node) Identify(ctx context.Context, o StartOptions) error {
	rec, err := n.newRecord(ctx, o)
	if err != nil {
		return err
	}
	if err := n.Root.SaveRecord(rec); err != nil {
		return err
	}
	n.SetRecord(rec)
	return nil
}

// newRecord is the record that a first start writes.
func (n *Node) newRecord(ctx context.Context, o StartOptions) (*node.Record, error) {
	rec := n.Record
	if rec == nil {
		name := o.Name
		if name == "" {
			name = HostNodeName()
		}
		rec = node.NewRecord(name, n.Now())
	}
	set := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	set(&rec.Name, o.Name)
	set(&rec.Network.PodCIDR, o.PodCIDR)
	if o.ServiceCIDR != "" {
		rec.Network.SetServices(o.ServiceCIDR)
	}
	set(&rec.Network.CNI, o.CNI)
	set((*string)(&rec.Auth), o.Auth)
	if err := n.addresses(ctx, rec, o.Address); err != nil {
		return nil, err
	}
	rec.Installed = n.Version
	return rec, rec.Check()
}

// addresses finds the address that other nodes use, and all that certificates
// should hold.
func (n *Node) addresses(ctx context.Context, rec *node.Record, wanted string) error {
	rec.Address = wanted
	if wanted == "" {
		a, _, err := netinfo.Default(ctx)
		if err != nil {
			return err
		}
		rec.Address = a.String()
	}
	all, err := netinfo.Addresses(ctx)
	if err != nil {
		return err
	}
	rec.Addresses = nil
	for _, a := range all {
		if s := a.String(); s != rec.Address {
			rec.Addresses = append(rec.Addresses, s)
		}
	}
	return nil
}

// InstallShipped puts the plugins that came with mk into the store, also on a
// node that was not started yet: so that another one can be made active before.
func (n *Node) InstallShipped(ctx context.Context) error {
	_, err := n.Dir.InstallShipped(ctx, n.Programs.Plugins(), pluginsdir.Options{
		Host: HostContracts(n.Version), By: n.User, At: n.Now().UTC(),
	})
	if err != nil {
		return err
	}
	return n.linkTokens()
}

// Bootstrap has every authority made, at once.
func (n *Node) Bootstrap(ctx context.Context, r *Run) error {
	if err := n.Issuer.checkClock(n.Now()); err != nil {
		return err
	}
	n.Prefetch(ctx, plugin.KindCerts, plugin.KindClustering)
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range certs.Names() {
		group.Go(func() error {
			p, who, err := n.Plugins.Certs(ctx, name)
			if err != nil {
				return err
			}
			a, err := p.Bootstrap(ctx, certs.BootstrapRequest{
				Call: r.Call("bootstrap-" + name), Authority: name, Generation: 1, KeyType: string(n.Issuer.KeyType), Now: n.Now(),
			})
			if err != nil {
				return fmt.Errorf("%s cannot make the authority %s: %w", who, name, err)
			}
			n.Issuer.Remember(a)
			return nil
		})
	}
	return group.Wait()
}

// Configure applies one ChangeSet: what the clustering plugin wants for the
// datastore, and all of the core's own files.
func (n *Node) Configure(ctx context.Context, r *Run) error {
	c, who, facts, err := n.Strategy(ctx)
	if err != nil {
		return err
	}
	facts.Cluster.ID = r.Record.ID
	return r.Ask(ctx, "init", who, func(ctx context.Context, call plugin.Call) (plugin.Answer, error) {
		return c.Init(ctx, clustering.InitRequest{Call: call, Node: facts})
	}, func(cs changeset.ChangeSet) (changeset.ChangeSet, error) {
		own, err := n.OwnFiles(ctx, r)
		return changeset.ChangeSet{Operations: append(own, cs.Operations...)}, err
	})
}

func (n *Node) grantsOf(who plugin.Identity) (plugin.Grants, error) {
	lock, err := n.Dir.Lock()
	if err != nil {
		return plugin.Grants{}, err
	}
	for _, i := range lock.Installed {
		if i.Kind == who.Kind && i.Name == who.Name && i.Version == who.Version {
			return i.Grants, nil
		}
	}
	return plugin.Grants{}, fmt.Errorf("%s %s is not installed", who, who.Version)
}

// OwnFiles are ownFiles with the tokens plugin asked.
func (n *Node) OwnFiles(ctx context.Context, r *Run) ([]changeset.Operation, error) {
	return n.ownFiles(ctx, func(add func(changeset.Action)) error { return n.addTokens(ctx, r, add) })
}

// ownFiles are the operations that the core adds to what the clustering plugin
// wants of a new control-plane node. What the authorities are is remembered
// already; tokens adds what the tokens plugin answers.
func (n *Node) ownFiles(ctx context.Context, tokens func(add func(changeset.Action)) error) ([]changeset.Operation, error) {
	ops, err := n.CommonFiles(ctx, certs.Names())
	if err != nil {
		return nil, err
	}
	add := func(a changeset.Action) { ops = append(ops, changeset.Operation{Action: a}) }
	if n.Record.Auth == node.Token {
		if err := tokens(add); err != nil {
			return nil, err
		}
	}
	for _, l := range []string{"lite.lock", "ha-cluster"} {
		add(&changeset.SetLock{Name: l})
	}
	return ops, nil
}

// CommonFiles are what a node of either role has: folders, trust, keys of its
// own, arguments and certificates.
func (n *Node) CommonFiles(ctx context.Context, authorities []string) ([]changeset.Operation, error) {
	var ops []changeset.Operation
	add := func(a changeset.Action) { ops = append(ops, changeset.Operation{Action: a}) }
	for _, f := range defaults.Folders() {
		add(&changeset.MakeFolder{Path: f})
	}
	for _, name := range authorities {
		a, err := n.Issuer.Authority(ctx, name)
		if err != nil {
			return nil, err
		}
		add(&changeset.SetTrust{Authority: name, Bundle: a.ServerBundle, ClientBundle: differing(a)})
	}
	if n.Record.Role == node.ControlPlane {
		if err := n.addServerConf(add); err != nil {
			return nil, err
		}
		if err := n.addServiceAccountKey(add); err != nil {
			return nil, err
		}
	}
	if err := n.addDefaults(add); err != nil {
		return nil, err
	}
	for _, p := range NodeProfiles(n.Record.Role) {
		add(&changeset.IssueCertificate{Profile: p})
	}
	return ops, nil
}

// differing is the bundle that verifies an authority's clients, where it is not
// the one that verifies its servers.
func differing(a certs.Authority) []byte {
	if bytes.Equal(a.ClientBundle, a.ServerBundle) {
		return nil
	}
	return a.ClientBundle
}

// NodeProfiles are the certificates that the core issues on a node; those of
// the datastore are the clustering plugin's to ask for.
func NodeProfiles(role node.Role) []string {
	if role == node.Worker {
		return []string{pki.Kubelet, pki.Proxy, pki.Flanneld, pki.NodeAgent}
	}
	return []string{
		pki.Server, pki.FrontProxyClient, pki.Admin, pki.Controller, pki.Scheduler, pki.Proxy, pki.Kubelet,
		pki.APIKubeletClient, pki.Flanneld, pki.NodeAgent,
	}
}

// addServerConf writes csr.conf.template where people have none, and what is
// rendered from it.
func (n *Node) addServerConf(add func(changeset.Action)) error {
	service, err := n.Issuer.serviceIPs()
	if err != nil {
		return err
	}
	if _, err := n.Root.Lstat(confTemplate); errors.Is(err, fs.ErrNotExist) {
		add(&changeset.WriteFile{Path: confTemplate, Content: pki.DefaultTemplate(service...)})
	}
	rendered, err := n.Issuer.renderConf(service)
	if err != nil {
		return err
	}
	add(&changeset.WriteFile{Path: "certs/csr.conf.rendered", Content: rendered})
	return nil
}

// ServiceAccountKey is the key that signs service account tokens.
const ServiceAccountKey = "certs/serviceaccount.key"

// addServiceAccountKey makes the key that signs service account tokens: the
// core's own, of the algorithm that the setting key-type names (ADR 14).
func (n *Node) addServiceAccountKey(add func(changeset.Action)) error {
	if _, err := n.Root.Lstat(ServiceAccountKey); err == nil {
		return nil
	}
	key, err := pki.NewTokenKey(n.Issuer.KeyType)
	if err != nil {
		return fmt.Errorf("make the key of service accounts: %w", err)
	}
	add(&changeset.WriteFile{Path: ServiceAccountKey, Secret: true, Content: key})
	return nil
}

// addDefaults writes the args and configuration files. What people wrote
// before the first start stays theirs, option by option.
func (n *Node) addDefaults(add func(changeset.Action)) error {
	d := n.Defaults()
	all := d.Arguments()
	for _, s := range d.Services() {
		if _, err := n.Root.Lstat("args/" + s); errors.Is(err, fs.ErrNotExist) {
			add(&changeset.WriteFile{Path: "args/" + s, Content: defaults.Render(s, all[s]), Secret: true})
			continue
		}
		missing, err := n.missingOptions(s, all[s])
		if err != nil {
			return err
		}
		for _, o := range missing {
			a := &changeset.SetArgument{Service: s, Option: o.Name, Value: &o.Value}
			if o.Bare {
				a.Value = nil
			}
			add(a)
		}
	}
	files, err := d.Files()
	if err != nil {
		return err
	}
	for _, name := range sortedNames(files) {
		add(&changeset.WriteFile{Path: name, Content: files[name]})
	}
	return nil
}

// supervisorEnv is the whole environment of the embedded supervisor.
var supervisorEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"} //nolint:gochecknoglobals // a constant list

// ensureManager makes sure that there is someone to start services.
func (n *Node) ensureManager(ctx context.Context) error {
	if _, ours := n.services.(*supervisor.Client); !ours {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return supervisor.Spawn(ctx, supervisor.Program{
		Path: n.Executable, Args: []string{"--root=" + n.Root.Dir(), "daemon"}, Env: supervisorEnv,
		RunDir: n.Root.RunDir(), LogFile: n.Root.Logs("mk"),
	})
}

// PrepareServices makes what services need outside the root folder, and makes
// sure that there is someone to start them.
func (n *Node) PrepareServices(ctx context.Context) error {
	if err := prepareMachine(n.Root, n.Machine); err != nil {
		return err
	}
	return n.ensureManager(ctx)
}

// PreparePods makes what pods need that a snapshot brings along: they start as
// soon as the kubelet does. Their images are to be there, or they wait for those
// that nobody offers. What the snapshot says of the cluster's authority may be of
// another one, and a program reads it once. What fails of that is said, and no
// reason to have no node: it is done later, for pods that start then.
func (n *Node) PreparePods(ctx context.Context) error {
	if err := n.StartFirst(ctx, defaults.Containerd, defaults.Etcd); err != nil {
		return err
	}
	bundle, err := n.Root.ReadFile(kubernetesTrust)
	if err == nil {
		err = n.withDatastore(func(c *datastore.Client) error { return c.ForgetRootBundles(ctx, bundle) })
	}
	if err := errors.Join(err, n.importImages(ctx)); err != nil {
		n.detail(err.Error())
	}
	return ctx.Err()
}

// beforeServices is what comes before the start of services.
func (n *Node) beforeServices(ctx context.Context) error {
	if err := n.PrepareServices(ctx); err != nil {
		return err
	}
	// In this order: a node that runs with the marker there is asked to stop.
	if err := n.Root.RemoveAll(stoppedLock); err != nil {
		return err
	}
	if n.Record.Stopped {
		n.Record.Stopped, n.Record.StoppedAt = false, time.Time{}
		if err := n.Root.SaveRecord(n.Record); err != nil {
			return err
		}
	}
	return n.refreshServices(ctx)
}

// StartServices starts all of the node's services.
func (n *Node) StartServices(ctx context.Context, o StartOptions) error {
	if err := n.StartFirst(ctx, n.serviceNames()...); err != nil {
		return err
	}
	return (&serviceChanges{n}).Boot(ctx, !o.NoBoot, n.serviceNames()...)
}
