package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

func TestClusteringAcrossTheWire(t *testing.T) {
	t.Parallel()
	c, ctx := sdktest.InMemory(t, strategy{}).Clustering(), t.Context()
	a, err := c.Init(ctx, clustering.InitRequest{Call: sdktest.Call(), Node: sdktest.Node()})
	if err != nil || a.Changes.Operations[0].Target() != "var/kubernetes/backend/init.yaml" {
		t.Fatal(a, err)
	}
	if a, err = c.Join(ctx, clustering.JoinRequest{Call: sdktest.Call()}); err != nil || a.Next.Name != "promote" {
		t.Fatal(a, err)
	}
	v, err := c.Admit(ctx, clustering.AdmitRequest{Joiner: plugin.Node{Name: "n2"}})
	if err != nil || string(v.Admitted.Facts) != "n2" {
		t.Fatal(v, err)
	}
	s, err := c.Serve(ctx, clustering.ServeRequest{Method: "POST", Reservation: &clustering.Reservation{ID: "r"}})
	if err != nil || s.Status != 200 || string(s.Body) != "r" || s.Lease.Until.IsZero() {
		t.Fatal(s, err)
	}
	i, err := c.Invite(ctx, clustering.InviteRequest{Lifetime: time.Hour})
	if err != nil || len(i.ConnectionStrings) != 1 {
		t.Fatal(i, err)
	}
	if m, err := c.Members(ctx, sdktest.Node()); err != nil || m[0].Name != "node-1" {
		t.Fatal(m, err)
	}
	if a, err = c.Leave(ctx, clustering.LeaveRequest{}); err != nil || a.NotYet.RetryAfter != time.Second {
		t.Fatal(a, err)
	}
	for verb, ask := range map[string]func() error{
		"Remove": func() error { _, err := c.Remove(ctx, clustering.RemoveRequest{}); return err },
		"Abort":  func() error { _, err := c.Abort(ctx, clustering.AbortRequest{}); return err },
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), "answer to "+verb+" breaks the contract") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if _, err := sdktest.InMemory(t, strategy{}).Approver().Pending(ctx); !errors.Is(err, plugin.Unsupported) {
		t.Fatal(err)
	}
}

// strategy answers each question with something to recognize.
type strategy struct{}

func (strategy) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{}, nil
}
func (strategy) Configure(context.Context, plugin.Configuration) error { return nil }
func (strategy) Health(context.Context) error                          { return nil }
func (strategy) Forget(context.Context, plugin.Call) error             { return nil }

func (strategy) Init(context.Context, clustering.InitRequest) (plugin.Answer, error) {
	return plugin.Answer{Changes: changeset.Build().WriteFile("var/kubernetes/backend/init.yaml", nil).ChangeSet()}, nil
}

func (strategy) Invite(context.Context, clustering.InviteRequest) (clustering.Invitation, error) {
	return clustering.Invitation{ConnectionStrings: []string{"a:1/t/f"}}, nil
}

func (strategy) Members(_ context.Context, n plugin.Node) ([]clustering.Member, error) {
	return []clustering.Member{{Name: n.Name}}, nil
}

func (strategy) Join(context.Context, clustering.JoinRequest) (plugin.Answer, error) {
	return plugin.Answer{Next: plugin.Step{Name: "promote", State: []byte("s")}}, nil
}

func (strategy) Leave(context.Context, clustering.LeaveRequest) (plugin.Answer, error) {
	return plugin.Answer{NotYet: &plugin.NotYet{RetryAfter: time.Second}}, nil
}

// Remove asks for what only the core may do.
func (strategy) Remove(context.Context, clustering.RemoveRequest) (plugin.Answer, error) {
	return plugin.Answer{Changes: changeset.Build().Add(&changeset.ActivatePlugin{
		Kind: "certs", Name: "x", Digest: "sha256:" + strings.Repeat("0", 64)}).ChangeSet()}, nil
}

// Abort asks for a path outside the root folder.
func (strategy) Abort(context.Context, clustering.AbortRequest) (plugin.Answer, error) {
	return plugin.Answer{Changes: changeset.Build().RemovePath("../../etc").ChangeSet()}, nil
}

func (strategy) Admit(_ context.Context, r clustering.AdmitRequest) (clustering.Verdict, error) {
	return clustering.Verdict{Admitted: &clustering.Admitted{Facts: []byte(r.Joiner.Name)}}, nil
}

func (strategy) Serve(_ context.Context, r clustering.ServeRequest) (clustering.Served, error) {
	return clustering.Served{Status: 200, Body: []byte(r.Reservation.ID), Lease: &clustering.Lease{Until: time.Now()}}, nil
}
