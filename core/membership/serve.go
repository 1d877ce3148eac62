package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/recovery"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// Caller is who asks this node over the network: a joiner, known by its key,
// or a member, known by the certificate of its agent.
type Caller struct {
	Key     string // fingerprint of the key of its TLS certificate; empty without one
	Member  string // the node's name, where the cluster's authority says so
	Address netip.Addr
	Local   netip.Addr
	Host    string
	Cert    []byte // PEM
}

// Reasons of a join that is refused.
const (
	NameTaken    plugin.Reason = "NAME_TAKEN"
	ClockSkew    plugin.Reason = "CLOCK_SKEW"
	NotAllowed   plugin.Reason = "NOT_ALLOWED"
	JoinEnded    plugin.Reason = "JOIN_ENDED"
	NotPermitted plugin.Reason = "NOT_PERMITTED"
)

const (
	// joinLease is how long what a joiner has here lasts without a word of it.
	joinLease = 10 * time.Minute
	// maxSkew is how far clocks may be apart: certificates are dated back less.
	maxSkew = 2 * time.Minute
	// serveLimit is how long a strategy's route may take to change something: less
	// than strategyLimit, the time of its caller, so that the caller hears of it
	// where nothing else takes long.
	serveLimit = 12 * time.Second
)

// BeginJoin reserves the joiner's token, asks whether it may come, and notes
// it. Asked again by the same key, it prolongs what was.
func (n Node) BeginJoin(ctx context.Context, who Caller, b peer.Begin) (*peer.Begun, error) {
	if err := n.checkBegin(who, b); err != nil {
		return nil, err
	}
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	t, _, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	claim := tokens.ReserveRequest{
		Call: plugin.Call{OperationID: b.Operation + "/reserve"}, Token: b.Token, Purpose: tokens.Join, Lease: firstLease,
		Claimant: tokens.Claimant{KeyFingerprint: who.Key, Name: b.Name, Address: b.Address},
	}
	held, err := t.Reserve(ctx, claim)
	if err != nil {
		return nil, n.tokenProblem(ctx, err, b.Token)
	}
	n.Prefetch(ctx, plugin.KindClustering, plugin.KindCerts)
	var begun *peer.Begun
	if err = within(b, held); err == nil {
		begun, err = n.admit(ctx, store, who, b, held)
	}
	if err == nil && begun.NotYet == nil {
		claim.Call.OperationID, claim.Lease = b.Operation+"/hold", tokenLease
		held, err = t.Reserve(ctx, claim)
	}
	if err == nil {
		return begun, nil
	}
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return nil, errors.Join(err, t.Release(release, plugin.Call{OperationID: b.Operation + "/release"}, held.ID))
}

// tokenProblem adds to a token that is not good who used it, and what to do.
func (n Node) tokenProblem(ctx context.Context, err error, token string) error {
	e, ok := errors.AsType[*plugin.Error](err)
	if !ok || e.Next != "" {
		return err
	}
	message := e.Message
	switch e.Reason {
	case plugin.TokenUnknown:
		if message = "the token is unknown: "; len(token) < 32 {
			message += "it is shorter than any that mk makes; was it cut off?"
		} else {
			message += "it is of another cluster or another node, or was revoked"
		}
	case plugin.TokenUsed:
		message = "the token was used: " + n.usedBy(ctx, e.Message)
	case plugin.TokenExpired:
	case plugin.TokenReserved:
		return &plugin.Error{Reason: e.Reason, Message: message, Next: "when that join has ended: the same again, or: mk add-node"}
	default:
		return err
	}
	return &plugin.Error{Reason: e.Reason, Message: message, Next: "on " + n.Record.Name + ": mk add-node"}
}

// usedBy says who joined with a token, where the plugin names the token.
func (n Node) usedBy(ctx context.Context, said string) string {
	all, err := n.Members(ctx)
	if err != nil {
		return said
	}
	for _, m := range all {
		if m.Token != "" && m.State == cluster.Joined && strings.Contains(said, m.Token) {
			return m.Name + " joined with it " + m.Joined.Format("2006-01-02 15:04 UTC")
		}
	}
	return said // by a node that is gone
}

func (n Node) checkBegin(who Caller, b peer.Begin) error {
	if n.Record.Role != node.ControlPlane {
		return isWorker(n.Record.Name)
	}
	if who.Key == "" {
		return plugin.Errorf(NotAllowed, "a joiner shows its key in the TLS handshake")
	}
	if err := n.checkSkew(b.Now); err != nil {
		return err
	}
	if err := pki.CheckNodeName(b.Name); err != nil {
		return plugin.Errorf(plugin.BadArgument, "%v", err)
	}
	for _, s := range append([]string{b.Address}, b.Addresses...) {
		if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return plugin.Errorf(plugin.BadArgument, "%.80q is not an address of a node", s)
		}
	}
	if err := checkMarks(b); err != nil {
		return err
	}
	if b.Role != plugin.RoleWorker && b.Role != plugin.RoleControlPlane {
		return plugin.Errorf(plugin.BadArgument, "the role %.40q is unknown", b.Role)
	}
	if len(b.Addresses) > 200 || b.AgentPort < 1 || b.AgentPort > 65535 || !node.ValidID(b.Operation) {
		return plugin.Errorf(plugin.BadArgument, "the request to join is not whole")
	}
	return nil
}

func isWorker(name string) error {
	return &plugin.Error{Reason: plugin.NotPossible, Message: name + " is a worker: it cannot admit others", Next: "join a control-plane node"}
}

// admit asks the strategy, notes the joiner, and answers what it needs.
func (n Node) admit(ctx context.Context, store cluster.Members, who Caller, b peer.Begin, held tokens.Reservation) (*peer.Begun, error) {
	m, others, all, err := n.free(ctx, store, who, b)
	if err != nil {
		return nil, err
	}
	if b.Addresses, err = ownAddresses(b, n.Record.Network.PodCIDR, n.Record.Network.ServiceCIDR, others); err != nil {
		return nil, err
	}
	c, _, facts, err := n.Strategy(ctx)
	if err != nil {
		return nil, err
	}
	facts.Files = nil // they are answered to the joiner
	reservation := clustering.Reservation{ID: held.ID, Role: held.Role, BoundNames: held.BoundNames, Until: held.Until}
	verdict, err := c.Admit(ctx, clustering.AdmitRequest{
		Call: plugin.Call{OperationID: b.Operation + "/admit"}, Node: facts, Reservation: reservation,
		Joiner: plugin.Node{Name: b.Name, Role: b.Role, Address: b.Address, Addresses: b.Addresses, Versions: b.Versions, Cluster: facts.Cluster},
	})
	switch {
	case err != nil:
		return nil, err
	case verdict.Denied != nil:
		return nil, &plugin.Error{Reason: verdict.Denied.Reason, Message: verdict.Denied.Message}
	case verdict.NotYet != nil:
		return &peer.Begun{NotYet: &peer.NotYet{RetryAfter: verdict.NotYet.RetryAfter, WaitingFor: verdict.NotYet.WaitingFor}}, nil
	case verdict.Admitted == nil:
		return nil, fmt.Errorf("the clustering plugin has not decided")
	}
	again := m.Operation != ""
	m.ID, m.Role, m.Address, m.Addresses, m.AgentPort = b.NodeID, b.Role, b.Address, b.Addresses, b.AgentPort
	m.Versions, m.Labels, m.Taints, m.State = b.Versions, b.Labels, b.Taints, cluster.Joining
	m.Operation, m.Key, m.Reservation, m.Server, m.Until = b.Operation, who.Key, held.ID, n.Record.Name, n.Now().Add(joinLease).UTC()
	m.Token, m.NoVote = held.TokenID, b.NoVote
	if err := n.noteJoiner(ctx, store, m, again); err != nil {
		return nil, err
	}
	if b.Role == plugin.RoleControlPlane {
		if err := n.electLeaders(ctx, store.Client); err != nil {
			return nil, err
		}
	}
	begun, err := n.begun(ctx, all, b.Role, facts)
	if err != nil {
		return nil, err
	}
	if b.NoVote {
		if begun.Datastore, err = n.DatastoreServers(ctx); err != nil {
			return nil, err
		}
	}
	begun.Reservation, begun.Until, begun.BoundNames, begun.Facts = held.ID, held.Until, held.BoundNames, verdict.Admitted.Facts
	begun.Addresses = b.Addresses
	return begun, nil
}

// noteJoiner writes the record of a joiner that is let in, and has the API servers
// let its programs in. Its agent reads what the cluster wants as soon as it runs;
// rights that nobody has a certificate for are nothing.
func (n Node) noteJoiner(ctx context.Context, store cluster.Members, m *cluster.Member, again bool) error {
	n.forget(m)
	at, barred := n.Now().Round(0), false
	group, within := errgroup.WithContext(ctx)
	group.Go(func() error { return cluster.Reports{Client: store.Client}.Grant(within, m.Name) })
	group.Go(func() (err error) {
		if err = store.Put(within, m); err == nil {
			barred, err = n.Barred(within, store, m.Name)
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if barred || again { // whoever took it off the list may not have waited for the API servers
		unbarred := n.Unbar(ctx, store, m.Name)
		now, err := n.Relist(ctx, store, m.Name)
		if err := errors.Join(unbarred, err); err != nil {
			return err
		}
		if now == nil || now.Operation != m.Operation {
			return fmt.Errorf("node %s: %w", m.Name, cluster.ErrChanged)
		}
	}
	n.remember(m, at)
	return nil
}

// electLeaders has the controllers of this node compete with those to come:
// a node that is alone does without, since a slow disk would cost it the lease
// and so the process.
func (n Node) electLeaders(ctx context.Context, c *kube.Client) error {
	yes, ops := "true", []changeset.Operation{}
	for _, s := range []string{"kube-controller-manager", "kube-scheduler"} {
		f, err := args.Load(n.Root.Args(s))
		if err != nil {
			return err
		}
		if v, _ := f.Get("leader-elect"); v != yes {
			ops = append(ops, changeset.Operation{Action: &changeset.SetArgument{Service: s, Option: "leader-elect", Value: &yes}})
		}
	}
	if len(ops) == 0 {
		return nil
	}
	ops = append(ops, changeset.Operation{Action: &changeset.ControlService{Service: "kubelite", Action: changeset.Restart}})
	if err := n.ServeChanges(ctx, "elect leaders", node.NewID(), changeset.ChangeSet{Operations: ops}); err != nil {
		return err
	}
	return c.WaitReady(ctx, n.detail)
}

// place finds among all records the one that a joiner may write, none yet or
// its own, and those of the others; or says who is in its place.
func place(all []*cluster.Member, who Caller, b peer.Begin, now time.Time) (own *cluster.Member, others []*cluster.Member, err error) {
	for _, m := range all {
		same := m.State == cluster.Joining && m.Key == who.Key
		switch {
		case m.Name == b.Name && (same || !m.Live(now)):
			own = m
		case m.Name == b.Name:
			return nil, nil, &plugin.Error{Reason: NameTaken, Message: fmt.Sprintf("the name %s is taken by the node at %s", b.Name, m.Address),
				Next: "join with another --name, or on a control-plane node: mk remove-node " + b.Name}
		case m.Address == b.Address && m.Live(now) && !same:
			return nil, nil, &plugin.Error{Reason: NameTaken, Message: fmt.Sprintf("the address %s is that of node %s", b.Address, m.Name),
				Next: "on a control-plane node: mk remove-node " + m.Name}
		case m.Live(now) && !same:
			others = append(others, m)
		}
	}
	return own, others, nil
}

// nameFree refuses a name that an object of the cluster has, without a record.
func (n Node) nameFree(ctx context.Context, store cluster.Members, name string) error {
	_, err := store.Client.Node(ctx, name)
	if err == nil {
		return &plugin.Error{Reason: NameTaken, Message: "the name " + name + " is taken by a node of the cluster", Next: "mk remove-node " + name}
	}
	if !kube.NotFound(err) {
		return err
	}
	return nil
}

// free finds the record that a joiner may write, the records of the others that
// live, and all that there were. What an earlier try left is taken back before the new one begins.
func (n Node) free(ctx context.Context, store cluster.Members, who Caller, b peer.Begin) (own *cluster.Member, others, all []*cluster.Member, err error) {
	free := make(chan error, 1) // asked meanwhile: mostly it is needed
	go func() { free <- n.nameFree(ctx, store, b.Name) }()
	all, err = store.List(ctx)
	nameErr := <-free
	if err != nil {
		return nil, nil, nil, err
	}
	if own, others, err = place(all, who, b, n.Now()); err != nil {
		return nil, nil, nil, err
	}
	if own != nil && own.Operation == b.Operation {
		return own, others, all, nil
	}
	if own != nil {
		if err := n.takeBack(ctx, store, own); err != nil {
			return nil, nil, nil, err
		}
		nameErr = n.nameFree(ctx, store, b.Name)
	}
	return &cluster.Member{Name: b.Name}, others, all, nameErr
}

// begun is what a joiner of a role needs to know of the cluster.
func (n Node) begun(ctx context.Context, all []*cluster.Member, role string, facts plugin.Node) (*peer.Begun, error) {
	out := &peer.Begun{
		ClusterID: n.Record.ClusterID, Server: facts, Auth: string(n.Record.Auth), Trust: map[string]peer.Bundle{}, Network: n.Record.Network,
	}
	var err error
	if out.Identity, err = recovery.Of(n.Node).Identity(); err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.State == cluster.Joined && m.Role == plugin.RoleControlPlane {
			out.APIServers = append(out.APIServers, net.JoinHostPort(m.Address, strconv.Itoa(n.Record.Network.APIPort)))
			out.Agents = append(out.Agents, m.Agent())
		}
	}
	names := []string{certs.Kubernetes}
	if role == plugin.RoleControlPlane {
		names = certs.Names()
		lock, err := n.Dir.Lock()
		if err != nil {
			return nil, err
		}
		for _, a := range lock.Active {
			out.Plugins = append(out.Plugins, peer.Plugin{Kind: a.Kind, Name: a.Name, Version: a.Version, Digest: a.Digest, Authority: a.Authority})
		}
	}
	for _, name := range names {
		a, err := n.Issuer.Authority(ctx, name)
		if err != nil {
			return nil, err
		}
		out.Trust[name] = peer.Bundle{Servers: a.ServerBundle, Clients: a.ClientBundle}
	}
	return out, nil
}
