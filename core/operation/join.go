package operation

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/apiproxy"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/seal"
)

// JoinOptions are what a join may be told. The token is no part of them: they
// are kept in the journal.
type JoinOptions struct {
	Server      string            `json:"server"` // host:port of the inviting node's agent
	Fingerprint string            `json:"fingerprint,omitempty"`
	SkipVerify  bool              `json:"skipVerify,omitempty"`
	Name        string            `json:"name,omitempty"`
	Address     string            `json:"address,omitempty"`
	Worker      bool              `json:"worker,omitempty"`
	NoVote      bool              `json:"noVote,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Taints      []string          `json:"taints,omitempty"`
	NoBoot      bool              `json:"noBoot,omitempty"`

	Token string `json:"-"`
}

// The joiner's own files of a join under way; they go when it ends.
const (
	joinFolder = "var/join"
	joinKey    = joinFolder + "/key.pem"
	joinCert   = joinFolder + "/cert.pem"
	joinBegun  = joinFolder + "/begun.json"
	joinSealed = joinFolder + "/seal.key"
	joinArgs   = joinFolder + "/args.json"
)

// agentsFile is where a worker finds the control plane's agents: a list of
// host:port, JSON.
const agentsFile = "var/kubernetes/agents.json"

// ErrMember says that this node has a cluster already.
var ErrMember = errors.New("this node belongs to a cluster")

// join is a join under way, on the joiner.
type join struct {
	n      *Node
	r      *Run
	o      JoinOptions
	client *peer.Client
	begun  *peer.Begun
}

// Join makes this node part of the cluster that invited it. A join that was
// interrupted is gone on with; one that fails before the node votes leaves
// both sides as they were.
func (n *Node) Join(ctx context.Context, o JoinOptions) error {
	if n.Record != nil && n.Record.ClusterID != "" {
		return ErrMember
	}
	r, err := n.Journal.Begin(ctx, "join", o)
	if err != nil {
		return err
	}
	if err := sameJoin(r.Record, o); err != nil {
		return errors.Join(err, r.lock.Release())
	}
	j := &join{n: n, r: r, o: o}
	err = j.run(ctx)
	if err != nil && ctx.Err() == nil && !r.Record.Forward {
		err = errors.Join(err, j.undo(ctx))
	}
	return r.End(ctx, err)
}

// sameJoin refuses to go on with a join that was begun in another way.
func sameJoin(rec *Record, o JoinOptions) error {
	var was JoinOptions
	if err := json.Unmarshal(rec.Params, &was); err != nil {
		return fmt.Errorf("read change %d: %w", rec.Number, err)
	}
	if was.Server != o.Server || was.Worker != o.Worker || was.Name != o.Name || was.Address != o.Address {
		return &OpenError{Record: rec}
	}
	return nil
}

func (j *join) run(ctx context.Context) error {
	if err := j.connect(); err != nil {
		return err
	}
	defer j.client.Close()
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"find out name and addresses", j.identify},
		{"ask to join", j.begin},
		{"install the plugins", j.plugins},
		{"take over the cluster's keys", j.keys},
		{"become a member", j.member},
		{"start the services", func(ctx context.Context) error { return j.n.startServices(ctx, StartOptions{NoBoot: j.o.NoBoot}) }},
		{"wait for the node", j.ready},
		{"tell the cluster", j.commit},
	}
	for _, s := range steps {
		if j.o.Worker && (s.name == "install the plugins" || s.name == "take over the cluster's keys") {
			continue
		}
		if err := j.r.Step(ctx, s.name, s.do); err != nil {
			return err
		}
	}
	j.n.Record.ClusterID = j.begun.ClusterID
	return errors.Join(j.n.Root.SaveRecord(j.n.Record), j.n.Root.RemoveAll(joinFolder))
}

// connect makes the joiner's key, once, and prepares the way to the server.
func (j *join) connect() error {
	root := j.n.Root
	if err := root.Mkdir(joinFolder, node.Perm{Mode: 0o700, UID: -1, GID: -1}); err != nil {
		return err
	}
	if _, err := root.Lstat(joinCert); errors.Is(err, fs.ErrNotExist) {
		key, keyPEM, err := pki.NewKey(pki.ECDSAP256)
		if err != nil {
			return err
		}
		cert, err := pki.SelfSigned(key, "mk joiner", j.n.Now())
		if err != nil {
			return err
		}
		private := node.Perm{Mode: 0o600, UID: -1, GID: -1}
		if err := j.noteArgs(private); err != nil {
			return err
		}
		if err := errors.Join(root.WriteFile(joinKey, keyPEM, private), root.WriteFile(joinCert, cert, private)); err != nil {
			return err
		}
	}
	pair, err := tls.LoadX509KeyPair(root.Path(joinCert), root.Path(joinKey))
	if err != nil {
		return fmt.Errorf("read this node's key for the join: %w", err)
	}
	j.client = peer.New(j.o.Server, peer.Options{Fingerprint: j.o.Fingerprint, Insecure: j.o.SkipVerify, Client: &pair})
	data, err := root.ReadFile(joinBegun)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	j.begun = &peer.Begun{}
	if err := json.Unmarshal(data, j.begun); err != nil {
		return fmt.Errorf("read what the cluster answered: %w", err)
	}
	return j.remember()
}

// noteArgs keeps the names of the args files that people wrote before the
// join: they stay if it is taken back.
func (j *join) noteArgs(p node.Perm) error {
	entries, err := j.n.Root.ReadDir("args")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	data, err := json.Marshal(names)
	if err != nil {
		return fmt.Errorf("note the args files: %w", err)
	}
	return j.n.Root.WriteFile(joinArgs, data, p)
}

// dropArgs removes the args files that the join wrote.
func (j *join) dropArgs() error {
	data, err := j.n.Root.ReadFile(joinArgs)
	if err != nil {
		return err
	}
	var keep []string
	if err := json.Unmarshal(data, &keep); err != nil {
		return fmt.Errorf("read which args files were there: %w", err)
	}
	entries, err := j.n.Root.ReadDir("args")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			errs = append(errs, j.n.Root.RemoveAll("args/"+e.Name()))
		}
	}
	return errors.Join(errs...)
}

// remember makes what the cluster said known to who issues certificates.
func (j *join) remember() error {
	j.n.several = true
	for name, b := range j.begun.Trust {
		if _, err := pki.ParseBundle(b.Servers); err != nil {
			return fmt.Errorf("the cluster's trust in %s: %w", name, err)
		}
		if j.o.Worker || name != certs.Kubernetes {
			j.n.Issuer.remember(certs.Authority{Name: name, ServerBundle: b.Servers, ClientBundle: b.Clients})
		}
	}
	if j.o.Worker {
		j.n.Issuer.Remote = func(ctx context.Context, s peer.Sign) (*peer.Signed, error) {
			s.Operation = j.r.Record.ID
			out := &peer.Signed{}
			return out, j.client.Call(ctx, peer.SignPath, s, out)
		}
	}
	j.n.Peer = func(ctx context.Context, _ plugin.Identity, r host.PeerRequest) (host.PeerResponse, error) {
		a, err := j.client.Raw(ctx, peer.Request{
			Method: r.Method, Path: peer.StrategyPath + r.Path, Body: r.Body,
			Headers: map[string]string{peer.OperationHeader: j.r.Record.ID},
		})
		if err != nil {
			return host.PeerResponse{}, err
		}
		return host.PeerResponse{Status: a.Status, Headers: a.Headers, Body: a.Body}, nil
	}
	return nil
}

func (j *join) identify(ctx context.Context) error {
	o := StartOptions{Name: j.o.Name, Address: j.o.Address}
	if err := j.n.identify(ctx, o); err != nil {
		return err
	}
	if j.o.Worker {
		j.n.Record.Role = node.Worker
	}
	return j.n.Root.SaveRecord(j.n.Record)
}

// begin asks until the cluster has decided.
func (j *join) begin(ctx context.Context) error {
	r := j.n.Record
	request := peer.Begin{
		Operation: j.r.Record.ID, Token: j.o.Token, NodeID: r.ID, Name: r.Name, Role: string(r.Role), Address: r.Address,
		Addresses: r.Addresses, AgentPort: r.Network.AgentPort, NoVote: j.o.NoVote, Labels: j.o.Labels,
		Versions: map[string]string{"mk": j.n.Version, "kubernetes": KubernetesVersion},
	}
	for {
		request.Now = j.n.Now()
		begun := &peer.Begun{}
		if err := j.client.Call(ctx, peer.BeginPath, request, begun); err != nil {
			return err
		}
		if begun.NotYet != nil {
			if err := j.r.wait(ctx, &plugin.NotYet{RetryAfter: begun.NotYet.RetryAfter, WaitingFor: begun.NotYet.WaitingFor}); err != nil {
				return err
			}
			continue
		}
		return j.accept(begun)
	}
}

// accept takes over what the cluster answered.
func (j *join) accept(begun *peer.Begun) error {
	r, w := j.n.Record, begun.Network
	r.Network.PodCIDR, r.Network.ServiceCIDR, r.Network.DNS = w.PodCIDR, w.ServiceCIDR, w.DNS
	r.Network.Domain, r.Network.APIPort, r.Network.CNI = w.Domain, w.APIPort, w.CNI
	if j.o.Worker {
		r.Auth = node.X509
	} else {
		r.Auth = node.Auth(begun.Auth)
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("the cluster's answer cannot be used: %w", err)
	}
	data, err := json.Marshal(begun)
	if err != nil {
		return fmt.Errorf("keep what the cluster answered: %w", err)
	}
	if err := j.n.Root.SaveRecord(r); err != nil {
		return err
	}
	if err := j.n.Root.WriteFile(joinBegun, data, node.Perm{Mode: 0o600, UID: -1, GID: -1}); err != nil {
		return err
	}
	j.begun = begun
	return j.remember()
}

// plugins puts the cluster's plugins into the store and makes them active.
func (j *join) plugins(ctx context.Context) error {
	n := j.n
	if err := n.installShipped(ctx); err != nil {
		return err
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	var cs changeset.ChangeSet
	for _, p := range j.begun.Plugins {
		if _, ok := lock.Find(p.Digest); !ok {
			if err := j.fetch(ctx, p); err != nil {
				return err
			}
		}
		cs.Operations = append(cs.Operations, changeset.Operation{Action: &changeset.ActivatePlugin{
			Kind: p.Kind, Name: p.Name, Digest: p.Digest, Authority: p.Authority}})
	}
	if err := j.r.Apply(ctx, cs); err != nil {
		return err
	}
	return n.describeActive(ctx)
}

// fetch gets a plugin that this node lacks from the server's store. What it
// may do was granted in the cluster.
func (j *join) fetch(ctx context.Context, p peer.Plugin) error {
	archive, err := j.client.Raw(ctx, peer.Request{Method: http.MethodGet, Path: peer.PluginPath + "/" + p.Digest,
		Headers: map[string]string{peer.OperationHeader: j.r.Record.ID}, Max: maxPlugin + maxPluginFiles*1024})
	if err != nil {
		return err
	}
	if archive.Status != http.StatusOK {
		return fmt.Errorf("the cluster does not give the plugin %s/%s %s: it answers %d", p.Kind, p.Name, p.Version, archive.Status)
	}
	return j.n.installArchive(ctx, archive.Body, p, pluginsdir.Options{Host: HostContracts(j.n.Version), By: j.n.User, At: j.n.Now().UTC()})
}

// keys takes over what control-plane nodes share: each plugin opens what was
// sealed to its own key, the core the rest.
func (j *join) keys(ctx context.Context) error {
	n := j.n
	ask := peer.Secrets{Operation: j.r.Record.ID, Recipients: map[string][]byte{}}
	exporters := map[string]plugin.Exporter{}
	for _, p := range j.begun.Plugins {
		name := p.Kind + "/" + p.Name
		if _, ok := exporters[name]; ok || !n.exportable(p.Digest) {
			continue
		}
		e, err := n.Plugins.Exporter(ctx, name)
		if err != nil {
			return err
		}
		exporters[name] = e
		if ask.Recipients[name], err = e.PrepareImport(ctx, j.r.Call("prepare-import")); err != nil {
			return err
		}
	}
	private, recipient, err := j.sealKey()
	if err != nil {
		return err
	}
	ask.Recipients[peer.CoreRecipient] = recipient
	sealed := peer.Sealed{}
	if err := j.client.Call(ctx, peer.SecretsPath, ask, &sealed); err != nil {
		return err
	}
	binding := []byte(j.begun.Reservation)
	for name, e := range exporters {
		if err := e.Import(ctx, j.r.Call("import"), sealed.Sealed[name], binding); err != nil {
			return fmt.Errorf("%s cannot take over the cluster's state: %w", name, err)
		}
	}
	data, err := seal.Open(private, binding, sealed.Sealed[peer.CoreRecipient].Data)
	if err != nil {
		return fmt.Errorf("open the cluster's keys: %w", err)
	}
	var own peer.CoreSecrets
	if err := json.Unmarshal(data, &own); err != nil {
		return fmt.Errorf("open the cluster's keys: %w", err)
	}
	if _, err := pki.ParseKey(own.ServiceAccountKey); err != nil {
		return fmt.Errorf("the cluster's key of service accounts: %w", err)
	}
	return j.r.Apply(ctx, changeset.ChangeSet{Operations: []changeset.Operation{{
		Action: &changeset.WriteFile{Path: serviceAccountKey, Content: own.ServiceAccountKey, Secret: true}}}})
}

// sealKey is the key that the core's secrets are sealed to, made once.
func (j *join) sealKey() (private, recipient []byte, err error) {
	private, err = j.n.Root.ReadFile(joinSealed)
	if err == nil {
		recipient, err = seal.Recipient(private)
		return private, recipient, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if private, recipient, err = seal.NewKey(); err != nil {
		return nil, nil, err
	}
	return private, recipient, j.n.Root.WriteFile(joinSealed, private, node.Perm{Mode: 0o600, UID: -1, GID: -1})
}

func (n *Node) exportable(digest string) bool {
	said, err := n.Dir.LoadDescribed(digest)
	return err == nil && said != nil && said.Description.Exportable
}

// member writes the node's files and, on a control-plane node, has the
// strategy make it a member of the datastore.
func (j *join) member(ctx context.Context) error {
	if j.o.Worker {
		ops, err := j.workerFiles(ctx)
		if err != nil {
			return err
		}
		return j.r.Apply(ctx, changeset.ChangeSet{Operations: ops})
	}
	// The datastore is started on the way.
	if err := prepareMachine(j.n.Root, j.n.Machine); err != nil {
		return err
	}
	if err := j.n.ensureManager(ctx); err != nil {
		return err
	}
	c, who, err := j.n.Plugins.Clustering(ctx)
	if err != nil {
		return err
	}
	grants, err := j.n.grantsOf(who)
	if err != nil {
		return err
	}
	facts, err := j.n.Facts(ctx, grants)
	if err != nil {
		return err
	}
	facts.Cluster.ID = j.begun.ClusterID
	first := true
	return j.r.Ask(ctx, "join", who, func(ctx context.Context, call plugin.Call) (plugin.Answer, error) {
		first = call.Step.IsZero()
		if err := j.r.passes(ctx, c, "Join", call.Step); err != nil {
			return plugin.Answer{}, err
		}
		answer, err := c.Join(ctx, clustering.JoinRequest{
			Call: call, Node: facts, Server: j.begun.Server, Facts: j.begun.Facts, NoVote: j.o.NoVote,
			Reservation: clustering.Reservation{ID: j.begun.Reservation, Role: facts.Role, BoundNames: j.begun.BoundNames, Until: j.begun.Until},
		})
		return answer, err
	}, func(cs changeset.ChangeSet) (changeset.ChangeSet, error) {
		if !first {
			return cs, nil
		}
		own, err := j.n.ownFiles(ctx, j.r)
		return changeset.ChangeSet{Operations: append(own, cs.Operations...)}, err
	})
}

// workerFiles are the files of a worker: trust, certificates by the peer,
// arguments. No plugin is asked.
func (j *join) workerFiles(ctx context.Context) ([]changeset.Operation, error) {
	ops, err := j.n.commonFiles(ctx, []string{certs.Kubernetes})
	if err != nil {
		return nil, err
	}
	add := func(a changeset.Action) { ops = append(ops, changeset.Operation{Action: a}) }
	list, err := apiproxy.ParseList([]byte(strings.Join(j.begun.APIServers, "\n")))
	if err != nil {
		return nil, fmt.Errorf("the cluster's API servers: %w", err)
	}
	add(&changeset.WriteFile{Path: apiproxy.ListFile, Content: apiproxy.FormatList(list)})
	agents, err := json.Marshal(j.begun.Agents)
	if err != nil {
		return nil, fmt.Errorf("write the list of agents: %w", err)
	}
	add(&changeset.WriteFile{Path: agentsFile, Content: append(agents, '\n')})
	for _, l := range []string{"lite.lock", "ha-cluster", "clustered.lock", "no-etcd"} {
		add(&changeset.SetLock{Name: l})
	}
	return ops, nil
}

// ready waits until the node is Ready in the cluster.
func (j *join) ready(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go j.n.giveUp(ctx, stop)
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := j.n.importImages(ctx); err != nil {
		return j.n.whyNotReady(ctx, err)
	}
	c, err := j.n.Kube()
	if err != nil {
		return err
	}
	if err := c.WaitReady(ctx, j.n.detail); err != nil {
		return j.n.whyNotReady(ctx, err)
	}
	if err := c.WaitNode(ctx, j.n.Record.Name, j.n.detail); err != nil {
		return j.n.whyNotReady(ctx, err)
	}
	return nil
}

func (j *join) commit(ctx context.Context) error {
	return j.client.Call(ctx, peer.CommitPath, peer.Ref{Operation: j.r.Record.ID}, nil)
}

// undo takes the join back on both sides. It is tried with a time of its own.
func (j *join) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	j.n.detail("take the join back")
	var errs []error
	if j.begun != nil {
		if err := j.client.Call(ctx, peer.ReleasePath, peer.Ref{Operation: j.r.Record.ID}, nil); err != nil {
			// What is there ends by itself with its lease.
			j.n.detail(fmt.Sprintf("the cluster was not told: %v", err))
		}
	}
	if j.n.Record != nil {
		errs = append(errs, j.n.stopServices(ctx), j.n.clearRemains(ctx))
	}
	errs = append(errs, j.dropArgs())
	entries, err := j.n.Root.ReadDir(".")
	errs = append(errs, err)
	for _, e := range entries {
		if !slices.Contains([]string{"var", "settings.yaml", "args"}, e.Name()) {
			errs = append(errs, j.n.Root.RemoveAll(e.Name()))
		}
	}
	for _, name := range []string{joinFolder, "var/kubernetes", "var/certs", "var/lib"} {
		errs = append(errs, j.n.Root.RemoveAll(name))
	}
	return errors.Join(errs...)
}
