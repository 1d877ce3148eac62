package membership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"mk8s.io/mk/core/apiproxy"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/recovery"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
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

const (
	// silenceLimit is how long the serving node may be silent in the middle of a
	// join: its agent may start again.
	silenceLimit = time.Minute
	// strategyLimit is how long one try may take to ask it for the strategy:
	// less than the question has, out of which the plugin asks.
	strategyLimit = 20 * time.Second
)

// The joiner's own files of a join under way; they go when it ends.
const (
	joinFolder = "var/join"
	joinKey    = joinFolder + "/key.pem"
	joinCert   = joinFolder + "/cert.pem"
	joinBegun  = joinFolder + "/begun.json"
	joinSealed = joinFolder + "/seal.key"
	joinCopies = joinFolder + "/copies" // see peoples; not whole yet
	joinBefore = joinFolder + "/before" // whole
	joinBack   = joinFolder + "/back"   // the same of a join that is being taken back
	pluginList = "plugins/lock.json"
)

// ErrTakenBack reports of a join that was to be gone on with that it was taken
// back, by the cluster or by a try that was interrupted: it can begin anew.
var ErrTakenBack = errors.New("that join was taken back")

// errUndoing says that a join was killed while it was taken back.
var errUndoing = errors.New("that join was being taken back")

// IsMember is the reason of a join on a node that has a cluster already.
const IsMember plugin.Reason = "IS_MEMBER"

// join is a join under way, on the joiner.
type join struct {
	n      Node
	r      *operation.Run
	o      JoinOptions
	client *peer.Client
	begun  *peer.Begun
	over   bool           // it was taken back before this node could say so
	free   bool           // no node holds a token for this node's key
	silent atomic.Int64   // since when the server is, for the strategy; nanoseconds
	early  errgroup.Group // starts what needs no certificate
}

// Join makes this node part of the cluster that invited it. A join that was
// interrupted is gone on with; one that fails before the node votes leaves
// both sides as they were, and so does ErrTakenBack.
func (n Node) Join(ctx context.Context, o JoinOptions) error {
	open, err := n.Journal.Open()
	if err != nil {
		return err
	}
	member := n.Record != nil && n.Record.ClusterID != ""
	if member && (open == nil || open.Verb != "join") {
		return errMember()
	}
	j, err := n.beginJoin(ctx, o)
	if err != nil {
		return err
	}
	r, resumed := j.r, j.r.Resumed
	if err := sameJoin(r.Record, o); err != nil {
		return errors.Join(err, r.Release())
	}
	member = n.Record != nil && n.Record.ClusterID != ""
	switch {
	case resumed && member: // it was killed right before its end
		j.free = true
	case member: // by who held the lock until now
		return errors.Join(errMember(), r.GiveUp("this node belongs to a cluster already"))
	case resumed:
		err = j.run(ctx)
	default: // what is there is of a join that has ended
		if err = n.forgetJoin(); err == nil {
			err = j.run(ctx)
		}
	}
	if err != nil && j.client == nil && resumed {
		return errors.Join(err, r.Release()) // what it did is there
	}
	if err != nil && ctx.Err() == nil && !r.Record.Forward {
		j.over = resumed && (errors.Is(err, JoinEnded) || errors.Is(err, errUndoing))
		if undone := j.undo(ctx); undone != nil {
			return errors.Join(&plugin.Error{Reason: plugin.NotPossible, Next: "mk leave, or the same again, goes on with taking it back",
				Message: fmt.Sprintf("the join failed, and not all of it could be taken back: %v; %v", undone, err)}, r.Release())
		}
	}
	if errors.Is(err, JoinEnded) && r.Record.Forward {
		err = &plugin.Error{Reason: JoinEnded, Message: "the cluster has taken that join back, and this node was about to vote in its datastore",
			Next: "mk leave --force, then mk join, with a connection string"}
	}
	if j.over {
		if err := r.GiveUp("taken back"); err != nil {
			return err // it is open still: to begin anew would be to go on with it
		}
		return ErrTakenBack
	}
	return ended(r.End(ctx, err), r.Record)
}

// beginJoin takes the lock for a join.
func (n Node) beginJoin(ctx context.Context, o JoinOptions) (*join, error) {
	r, err := n.Journal.Begin(ctx, "join", o)
	if err != nil {
		return nil, err
	}
	j := &join{n: n, r: r, o: o}
	r.AtEnd = j.forget
	return j, nil
}

// sameJoin refuses to go on with a join that was begun in another way.
func sameJoin(rec *operation.Record, o JoinOptions) error {
	var was JoinOptions
	if err := json.Unmarshal(rec.Params, &was); err != nil {
		return fmt.Errorf("read change %d: %w", rec.Number, err)
	}
	if was.Server != o.Server || was.Worker != o.Worker || was.NoVote != o.NoVote || was.Name != o.Name || was.Address != o.Address {
		return &operation.OpenError{Record: rec}
	}
	return nil
}

// joinStep is one step of a join; a worker takes not all of them.
type joinStep struct {
	name   string
	worker bool
	do     func(*join, context.Context) error
}

func joinSteps(worker bool) []joinStep {
	all := []joinStep{
		{"find out name and addresses", true, (*join).identify},
		{"ask to join", true, (*join).begin},
		{"install the plugins", false, (*join).plugins},
		{"take over the cluster's keys", false, (*join).keys},
		{"become a member", true, (*join).member},
		{"start the services", true, (*join).start},
		{"wait for the node", true, (*join).ready},
		{"tell the cluster", true, (*join).commit},
	}
	return slices.DeleteFunc(all, func(s joinStep) bool { return worker && !s.worker })
}

// JoinSteps are the names of the steps that a join takes.
func JoinSteps(worker bool) []string {
	var out []string
	for _, s := range joinSteps(worker) {
		out = append(out, s.name)
	}
	return out
}

func (j *join) start(ctx context.Context) error {
	return j.n.StartServices(ctx, operation.StartOptions{NoBoot: j.o.NoBoot})
}

func (j *join) run(ctx context.Context) error {
	if err := j.connect(); err != nil {
		return err
	}
	defer j.client.Close()
	defer j.early.Wait() //nolint:errcheck // what start does again, and tells
	if j.undoing() {
		return errUndoing
	}
	for _, s := range joinSteps(j.o.Worker) {
		if err := j.r.Step(ctx, s.name, func(ctx context.Context) error { return s.do(j, ctx) }); err != nil {
			return silent(err, s.name)
		}
	}
	j.n.Record.ClusterID = j.begun.ClusterID
	if err := j.n.Root.SaveRecord(j.n.Record); err != nil {
		return err
	}
	j.free = true
	j.awaitAgent(ctx)
	return nil
}

// awaitAgent waits until this node's agent answers others: the next joiner
// looks for it. It is no part of what was promised, and so no error.
func (j *join) awaitAgent(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(j.n.Record.Address, strconv.Itoa(j.n.Record.Network.AgentPort)))
		if err == nil {
			_ = conn.Close()
			return
		}
		if j.r.Wait(ctx, &plugin.NotYet{RetryAfter: 100 * time.Millisecond, WaitingFor: "this node's agent"}) != nil {
			return
		}
	}
}

// remember makes what the cluster said known to who issues certificates.
func (j *join) remember() error {
	j.n.Several, j.n.Endpoints = true, j.begun.Datastore
	for name, b := range j.begun.Trust {
		if _, err := pki.ParseBundle(b.Servers); err != nil {
			return fmt.Errorf("the cluster's trust in %s: %w", name, err)
		}
		if j.o.Worker { // a control-plane node asks its own plugins
			j.n.Issuer.Remember(certs.Authority{Name: name, ServerBundle: b.Servers, ClientBundle: b.Clients})
		}
	}
	if j.o.Worker {
		j.n.Issuer.Remote = func(ctx context.Context, s peer.Sign) (*peer.Signed, error) {
			s.Operation, s.Node = j.r.Record.ID, j.n.Record.Name
			out := &peer.Signed{}
			return out, j.client.Call(ctx, peer.SignPath, s, out)
		}
	}
	j.n.Peer = j.askStrategy
	return nil
}

// askStrategy asks the strategy's routes on the serving node, for the strategy
// here. That node may be silent for longer than a question has time: until
// silenceLimit the answer is that it is to be asked again.
func (j *join) askStrategy(ctx context.Context, _ plugin.Identity, r host.PeerRequest) (host.PeerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, strategyLimit)
	defer cancel()
	began := j.n.Now()
	a, err := j.client.Raw(ctx, peer.Request{
		Method: r.Method, Path: peer.StrategyPath + r.Path, Body: r.Body,
		Headers: map[string]string{peer.OperationHeader: j.r.Record.ID},
	})
	if errors.Is(err, peer.Unreachable) {
		j.silent.CompareAndSwap(0, began.UnixNano())
		if j.n.Now().UnixNano()-j.silent.Load() < int64(silenceLimit) {
			return host.PeerResponse{Status: http.StatusServiceUnavailable, Body: []byte(err.Error())}, nil
		}
	}
	if err != nil {
		return host.PeerResponse{}, err
	}
	j.silent.Store(0)
	return host.PeerResponse{Status: a.Status, Headers: a.Headers, Body: a.Body}, nil
}

func (j *join) identify(ctx context.Context) error {
	o := operation.StartOptions{Name: j.o.Name, Address: j.o.Address}
	if err := j.n.Identify(ctx, o); err != nil {
		return err
	}
	if j.o.Worker {
		j.n.Record.Role = node.Worker
	}
	j.n.Record.NoVote = j.o.NoVote
	return j.n.Root.SaveRecord(j.n.Record)
}

// begin asks until the cluster has decided.
func (j *join) begin(ctx context.Context) error {
	r := j.n.Record
	request := peer.Begin{
		Operation: j.r.Record.ID, Token: j.o.Token, NodeID: r.ID, Name: r.Name, Role: string(r.Role), Address: r.Address,
		Addresses: r.Addresses, AgentPort: j.n.AgentPort(), NoVote: j.o.NoVote, Labels: j.o.Labels, Taints: j.o.Taints,
		Versions: j.n.versions(),
	}
	for {
		request.Now = j.n.Now()
		begun := &peer.Begun{}
		if err := j.client.Call(ctx, peer.BeginPath, request, begun); err != nil {
			return err
		}
		if begun.NotYet != nil {
			if err := j.r.Wait(ctx, &plugin.NotYet{RetryAfter: begun.NotYet.RetryAfter, WaitingFor: begun.NotYet.WaitingFor}); err != nil {
				return err
			}
			continue
		}
		return j.accept(begun)
	}
}

// accept takes over what the cluster answered.
func (j *join) accept(begun *peer.Begun) error {
	r, own := j.n.Record, j.n.Record.Network.AgentPort
	r.Network, r.Addresses = begun.Network, begun.Addresses
	r.Network.AgentPort = own
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
	if err := errors.Join(j.n.Root.SaveRecord(r), recovery.Of(j.n.Node).Adopt(begun.Identity)); err != nil {
		return err
	}
	if err := j.n.Root.WriteFile(joinBegun, data, node.Perm{Mode: 0o600, UID: -1, GID: -1}); err != nil {
		return err
	}
	j.begun = begun
	return j.remember()
}

// member writes the node's files and, on a control-plane node, has the
// strategy make it a member of the datastore.
func (j *join) member(ctx context.Context) error {
	if j.o.Worker {
		return j.worker(ctx)
	}
	if j.o.NoVote {
		return j.observe(ctx)
	}
	// The datastore is started on the way.
	if err := j.n.PrepareServices(ctx); err != nil {
		return err
	}
	if j.r.Record.Forward {
		// It may vote already, and then the others decide nothing without it: a
		// machine that has started again has to start it before it asks them.
		if err := j.n.Services().Start(ctx, defaults.Etcd); err != nil {
			return err
		}
	}
	c, who, facts, err := j.n.Strategy(ctx)
	if err != nil {
		return err
	}
	facts.Cluster.ID = j.begun.ClusterID
	// It waits for the others as long as its own member stays up.
	return j.n.WhileUp(ctx, func(ctx context.Context) error { return j.askMember(ctx, c, who, facts) })
}

// worker writes a worker's files. What starts services needs none of them, and
// containerd and the way to the API servers need no certificate: each starts
// beside what comes next, kubelite too, which waits for both itself.
func (j *join) worker(ctx context.Context) error {
	files, err := j.workerFiles(ctx)
	if err != nil {
		return err
	}
	var plain, certified []changeset.Operation
	for _, o := range files {
		switch o.Action.(type) {
		case *changeset.SetTrust, *changeset.IssueCertificate:
			certified = append(certified, o)
		default:
			plain = append(plain, o)
		}
	}
	group, within := errgroup.WithContext(ctx)
	group.Go(func() error { return j.n.PrepareServices(within) })
	group.Go(func() error { return j.r.Apply(within, changeset.ChangeSet{Operations: plain}) })
	if err := group.Wait(); err != nil {
		return err
	}
	// To the end, whatever becomes of the certificates: what runs can be stopped.
	j.early.Go(func() error { return j.n.StartFirst(ctx, defaults.Containerd, defaults.Proxy) })
	return j.r.Apply(ctx, changeset.ChangeSet{Operations: certified})
}

// askMember asks the strategy to make this node a member of the datastore.
func (j *join) askMember(ctx context.Context, c clustering.Plugin, who plugin.Identity, facts plugin.Node) error {
	first := true
	return j.r.Ask(ctx, "join", who, func(ctx context.Context, call plugin.Call) (plugin.Answer, error) {
		first = call.Step.IsZero()
		if err := j.r.Passes(ctx, c, "Join", call.Step); err != nil {
			return plugin.Answer{}, err
		}
		answer, err := c.Join(ctx, clustering.JoinRequest{
			Call: call, Node: facts, Server: j.begun.Server, Facts: j.begun.Facts,
			Reservation: clustering.Reservation{ID: j.begun.Reservation, Role: facts.Role, BoundNames: j.begun.BoundNames, Until: j.begun.Until},
		})
		return answer, err
	}, func(cs changeset.ChangeSet) (changeset.ChangeSet, error) {
		if !first {
			return cs, nil
		}
		own, err := j.n.OwnFiles(ctx, j.r)
		return changeset.ChangeSet{Operations: append(own, cs.Operations...)}, err
	})
}

// workerFiles are the files of a worker: trust, certificates by the peer,
// arguments. No plugin is asked.
func (j *join) workerFiles(ctx context.Context) ([]changeset.Operation, error) {
	ops, err := j.n.CommonFiles(ctx, []string{certs.Kubernetes})
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
	add(&changeset.WriteFile{Path: operation.AgentsFile, Content: append(agents, '\n')})
	for _, l := range []string{"lite.lock", "ha-cluster", "clustered.lock", "no-etcd"} {
		add(&changeset.SetLock{Name: l})
	}
	return ops, nil
}

// ready waits until the node is Ready in the cluster.
func (j *join) ready(ctx context.Context) error {
	if j.r.Resumed {
		// Where the cluster has taken the join back meanwhile, this node is
		// refused, and never registers. It asks for no certificate: of a join that
		// goes on the answer says no more than that.
		err := j.client.Call(ctx, peer.SignPath, peer.Sign{Operation: j.r.Record.ID, Node: j.n.Record.Name}, nil)
		if errors.Is(err, JoinEnded) {
			return err
		}
	}
	return j.n.AwaitNode(ctx)
}

// commit tells the cluster that the node is Ready. An answer that is lost is
// asked for again: what succeeded is not to be taken back.
func (j *join) commit(ctx context.Context) error {
	return j.client.Call(ctx, peer.CommitPath, peer.Ref{Operation: j.r.Record.ID}, nil)
}
