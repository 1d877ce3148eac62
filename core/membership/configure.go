package membership

import (
	"context"
	"errors"
	"time"

	"mk8s.io/mk/core/microk8s"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// Calls refuses whoever does not present a callback token of this cluster. A
// worker's opens nothing: it would be root on the control plane.
func (n Node) Calls(ctx context.Context, who Caller, token string) error {
	if err := n.guestsWelcome(); err != nil {
		return err
	}
	t, _, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return err
	}
	id := node.NewID()
	held, err := t.Reserve(ctx, tokens.ReserveRequest{
		Call: plugin.Call{OperationID: id + "/reserve"}, Token: token, Purpose: tokens.Callback, Lease: time.Minute,
		Claimant: tokens.Claimant{Name: "callback", Address: who.Address.String()},
	})
	if err != nil {
		return badToken(err)
	}
	// Nothing is used up: who has it may come again.
	if err := t.Release(ctx, plugin.Call{OperationID: id + "/release"}, held.ID); err != nil && !errors.Is(err, plugin.ReservationEnded) {
		return err
	}
	if held.Role == plugin.RoleWorker {
		return microk8s.InvalidToken(plugin.Errorf(NotPermitted, "it is a worker's"))
	}
	return nil
}

// Configure changes arguments of the list and restarts services, as MicroK8s'
// nodes ask each other to. All is done or nothing.
func (n Node) Configure(ctx context.Context, who Caller, c microk8s.Configure) (map[string]string, error) {
	if err := n.Calls(ctx, who, c.Callback); err != nil {
		return nil, err
	}
	cs, err := c.Changes()
	if err != nil {
		return nil, err
	}
	// Both ends must have time: the caller's patience is not the node's.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), configureLimit)
	defer cancel()
	if err := n.ServeChanges(ctx, "configure, asked by "+who.Address.String(), node.NewID(), cs); err != nil {
		return nil, err
	}
	return map[string]string{"result": "ok"}, nil
}

const configureLimit = 2 * time.Minute

// MayAsk refuses whoever is no control-plane node of this cluster: only those
// look at other nodes, or have them do something.
func (n Node) MayAsk(ctx context.Context, who Caller) error {
	store, err := n.Store()
	if err != nil {
		return err
	}
	m, err := n.callerRecord(ctx, store, who, "")
	if err == nil && m.Role != plugin.RoleControlPlane {
		err = plugin.Errorf(NotPermitted, "%s is a worker", m.Name)
	}
	return err
}
