package membership

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/apiproxy"
	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// RenewSteps are the names of the steps that RenewJoin takes.
func RenewSteps() []string {
	return []string{"renew the certificates", "start the services", "wait for the node"}
}

// RenewJoin brings a worker back whose certificates have all ended: with a
// token it gets new ones, for the name that it has. Its pods and all else stay.
// It proves that it is the machine that joined with the key of its agent,
// whose certificate may have ended.
func (n Node) RenewJoin(ctx context.Context, o JoinOptions) error {
	switch {
	case n.Record == nil || n.Record.ClusterID == "":
		return &plugin.Error{Reason: plugin.NotPossible, Message: "this machine is of no cluster: there is nothing to renew", Next: "the same without --renew"}
	case n.Record.Role != node.Worker:
		return &plugin.Error{Reason: plugin.NotPossible, Message: "a control-plane node signs for itself", Next: "mk certs renew"}
	}
	r, err := n.Journal.Begin(ctx, "join --renew", o)
	if err != nil {
		return err
	}
	return r.End(ctx, n.renewJoin(ctx, r, o))
}

func (n Node) renewJoin(ctx context.Context, r *operation.Run, o JoinOptions) error {
	do := []func(context.Context) error{
		func(ctx context.Context) error { return n.renewWith(ctx, r, o) },
		func(ctx context.Context) error {
			return n.StartServices(ctx, operation.StartOptions{NoBoot: o.NoBoot})
		},
		n.AwaitNode,
	}
	for i, name := range RenewSteps() {
		if err := r.Step(ctx, name, do[i]); err != nil {
			return err
		}
	}
	return nil
}

// renewWith asks the server what the cluster is by now, and has it sign.
func (n Node) renewWith(ctx context.Context, r *operation.Run, o JoinOptions) error {
	agent, err := pki.Find(pki.NodeAgent)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(n.Root.Path(agent.CertFile()), n.Root.Path(agent.KeyFile()))
	if err != nil {
		return &plugin.Error{Reason: plugin.NotPossible, Message: "this node cannot show that it is the one that joined: " + err.Error(),
			Next: "mk leave --force; then, on a control-plane node: mk remove-node " + n.Record.Name + " --force"}
	}
	client := peer.New(o.Server, peer.Options{Fingerprint: o.Fingerprint, Insecure: o.SkipVerify, Client: &pair})
	defer client.Close()
	ask := func(ctx context.Context, s peer.Sign) (*peer.Renewed, error) {
		out := &peer.Renewed{}
		return out, client.Call(ctx, peer.RenewPath, peer.Renew{
			Operation: r.Record.ID, Token: o.Token, Name: n.Record.Name, NodeID: n.Record.ID, Now: n.Now(), Requests: s.Requests,
		}, out)
	}
	cluster, err := ask(ctx, peer.Sign{})
	if err != nil {
		return err
	}
	cs, err := n.renewed(cluster)
	if err != nil {
		return err
	}
	n.Issuer.Remote = func(ctx context.Context, s peer.Sign) (*peer.Signed, error) {
		out, err := ask(ctx, s)
		if err != nil {
			return nil, err
		}
		return &out.Signed, nil
	}
	return r.Apply(ctx, cs)
}

// renewed are the changes: what may have changed in the cluster meanwhile, and
// every certificate. Services that run read them; a restart makes it at once.
func (n Node) renewed(c *peer.Renewed) (changeset.ChangeSet, error) {
	cs, err := n.Renewal(operation.RenewOptions{})
	if err != nil {
		return cs, err
	}
	if _, err := pki.ParseBundle(c.Trust.Servers); err != nil {
		return cs, fmt.Errorf("the cluster's trust: %w", err)
	}
	n.Issuer.Remember(certs.Authority{Name: certs.Kubernetes, ServerBundle: c.Trust.Servers, ClientBundle: c.Trust.Clients})
	list, err := apiproxy.ParseList([]byte(strings.Join(c.APIServers, "\n")))
	if err != nil {
		return cs, fmt.Errorf("the cluster's API servers: %w", err)
	}
	agents, err := json.Marshal(c.Agents)
	if err != nil {
		return cs, fmt.Errorf("write the list of agents: %w", err)
	}
	actions := []changeset.Action{
		&changeset.SetTrust{Authority: certs.Kubernetes, Bundle: c.Trust.Servers, ClientBundle: c.Trust.Clients},
		&changeset.WriteFile{Path: apiproxy.ListFile, Content: apiproxy.FormatList(list)},
		&changeset.WriteFile{Path: operation.AgentsFile, Content: append(agents, '\n')},
	}
	for _, s := range []string{defaults.Kubelite, defaults.Flanneld} {
		actions = append(actions, &changeset.ControlService{Service: s, Action: changeset.Restart})
	}
	for _, a := range actions {
		cs.Operations = append(cs.Operations, changeset.Operation{Action: a})
	}
	return cs, nil
}

// RenewFor certifies the keys of a worker whose certificates have ended. The
// caller has a good token, and the key that was certified for that node's
// agent: a token alone gets nobody another node's name.
func (n Node) RenewFor(ctx context.Context, who Caller, r peer.Renew) (*peer.Renewed, error) {
	if n.Record.Role != node.ControlPlane {
		return nil, isWorker(n.Record.Name)
	}
	if err := n.checkSkew(r.Now); err != nil {
		return nil, err
	}
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	m, err := store.Get(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	if err := renewable(m, who, r); err != nil {
		return nil, err
	}
	var batch []operation.Request
	if len(r.Requests) > 0 { // else it asks what the cluster is
		if batch, err = signable(m, r.Requests); err != nil {
			return nil, err
		}
	}
	t, _, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	if m.Renewal != r.Operation {
		held, err := t.Reserve(ctx, tokens.ReserveRequest{
			Call: plugin.Call{OperationID: r.Operation + "/reserve"}, Token: r.Token, Purpose: tokens.Join, Lease: tokenLease,
			Claimant: tokens.Claimant{KeyFingerprint: who.Key, Name: r.Name, Address: m.Address},
		})
		if err != nil {
			return nil, n.tokenProblem(ctx, err, r.Token)
		}
		if err := within(peer.Begin{Name: r.Name, Role: plugin.RoleWorker}, held); err != nil {
			return nil, errors.Join(err, t.Release(ctx, plugin.Call{OperationID: r.Operation + "/release"}, held.ID))
		}
		m.Reservation = held.ID
	}
	all, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	begun, err := n.begun(ctx, all, plugin.RoleWorker, plugin.Node{})
	if err != nil {
		return nil, err
	}
	out := &peer.Renewed{Trust: begun.Trust[certs.Kubernetes], APIServers: begun.APIServers, Agents: begun.Agents}
	if len(r.Requests) == 0 {
		return out, nil
	}
	// The key that was shown stays good: the answer may be lost.
	m.Keys, m.Renewal = []string{who.Key}, r.Operation
	signed, err := n.certify(ctx, store, m, r.Requests, batch)
	if err != nil {
		return nil, err
	}
	out.Signed = *signed
	return out, t.Commit(ctx, plugin.Call{OperationID: r.Operation + "/commit"}, m.Reservation)
}

// renewable refuses whoever is not the worker of a record, and a worker that
// mk does not run.
func renewable(m *cluster.Member, who Caller, r peer.Renew) error {
	if m == nil || m.State != cluster.Joined || m.Role != plugin.RoleWorker || m.ID != r.NodeID || who.Key == "" || !slices.Contains(m.Keys, who.Key) ||
		!node.ValidID(r.Operation) {
		return &plugin.Error{Reason: NotPermitted, Message: "this machine is not the worker of that name: it was removed, or another one has its name",
			Next: "mk leave --force; then join as a new node"}
	}
	if m.Guest != nil {
		return &plugin.Error{Reason: plugin.NotPossible, Message: m.Name + " is a node of MicroK8s: mk renews what mk runs, and its certificates are its own affair",
			Next: "there: microk8s leave; here: mk remove-node " + m.Name + ", mk add-node --worker; there: microk8s join, with that string"}
	}
	return nil
}

// checkSkew refuses who has another time.
func (n Node) checkSkew(theirs time.Time) error {
	skew := theirs.Sub(n.Now())
	if skew.Abs() <= maxSkew {
		return nil
	}
	return &plugin.Error{Reason: ClockSkew, Next: "timedatectl set-ntp true", Message: fmt.Sprintf(
		"clocks are %s apart: there %s, on %s %s", skew.Abs().Round(time.Minute), theirs.UTC().Format("15:04 UTC"), n.Record.Name, n.Now().UTC().Format("15:04 UTC"))}
}
