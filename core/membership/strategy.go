package membership

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

// ServeStrategy answers a route of the clustering plugin. What it answers to
// change is applied before the caller hears of it.
func (n Node) ServeStrategy(ctx context.Context, who Caller, operation string, r peer.Request) (*peer.Answer, error) {
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	m, err := n.joiner(ctx, store, who, operation)
	if err != nil {
		return nil, err
	}
	c, by, facts, err := n.Strategy(ctx)
	if err != nil {
		return nil, err
	}
	members, err := n.DatastoreMembers(ctx)
	if err != nil {
		return nil, err
	}
	call := plugin.Call{OperationID: operation + "/serve" + r.Path}
	served, err := c.Serve(ctx, clustering.ServeRequest{
		Call: call, Node: facts, Method: r.Method, Path: r.Path, Headers: r.Headers, Body: r.Body, PeerAddress: who.Address.String(),
		LocalAddress: who.Local.String(), PeerCertificate: who.Cert, Host: who.Host, Members: members,
		Reservation: &clustering.Reservation{ID: m.Reservation, Role: m.Role, BoundNames: []string{m.Name}, Until: m.Until},
	})
	if err != nil {
		return nil, err
	}
	if served.Answer.NotYet != nil {
		return &peer.Answer{Status: http.StatusServiceUnavailable, Body: []byte(served.Answer.NotYet.WaitingFor)}, nil
	}
	if err := n.CheckGrants(served.Answer.Changes, by); err != nil {
		return nil, fmt.Errorf("%s: %w", by, err)
	}
	if err := onlyOf(m, served.Answer.Changes); err != nil {
		return nil, fmt.Errorf("%s: %w", by, err)
	}
	if served.Lease != nil && !served.Lease.Until.IsZero() {
		// Noted before it is done: what is done must never lack its way back.
		if err := errors.Join(n.CheckGrants(served.Lease.TakeBack, by), onlyOf(m, served.Lease.TakeBack)); err != nil {
			return nil, fmt.Errorf("%s: %w", by, err)
		}
		m.TakeBack = &served.Lease.TakeBack
		if err := store.Put(ctx, m); err != nil {
			return nil, err
		}
	}
	limited, cancel := context.WithTimeout(ctx, serveLimit)
	defer cancel()
	err = n.ServeChanges(limited, "serve the join of "+m.Name, call.OperationID, served.Answer.Changes)
	// Another joiner may have been faster since the strategy looked.
	if err != nil && ctx.Err() == nil && (limited.Err() != nil || errors.Is(err, datastore.Joining)) {
		return &peer.Answer{Status: http.StatusServiceUnavailable, Body: []byte("the datastore takes in " + m.Name)}, nil
	}
	if err != nil {
		return nil, err
	}
	if served.Lease != nil && served.Lease.Until.IsZero() {
		// It votes, whether or not it still waits for the answer.
		m.TakeBack, m.Forward = nil, true
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveLimit)
		defer cancel()
		if err := store.Put(ctx, m); err != nil {
			return nil, err
		}
	}
	return &peer.Answer{Status: served.Status, Headers: served.Headers, Body: served.Body}, nil
}

// onlyOf holds what is served for a joiner to the joiner: no other member of
// the datastore is changed for it.
func onlyOf(m *cluster.Member, cs changeset.ChangeSet) error {
	for _, op := range cs.Operations {
		c, ok := op.Action.(*changeset.ChangeMember)
		if !ok {
			continue
		}
		u, err := url.Parse(c.PeerAddress)
		if err != nil || !slices.Contains(append([]string{m.Address}, m.Addresses...), u.Hostname()) {
			return fmt.Errorf("the member %s is not of %s, which joins", c.PeerAddress, m.Name)
		}
	}
	return nil
}
