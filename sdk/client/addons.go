package client

import (
	"context"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/plugin"
	addonsv1 "mk8s.io/mk/sdk/proto/mk/addons/v1"
)

type addonsClient struct {
	base
	rpc addonsv1.AddonsServiceClient
}

func (c *addonsClient) List(ctx context.Context) ([]addons.Addon, error) {
	m, err := c.rpc.List(ctx, &addonsv1.ListRequest{})
	return wire.ToAddons(m), answered(err)
}

func (c *addonsClient) Plan(ctx context.Context, r addons.PlanRequest) (plugin.Answer, error) {
	m, err := c.rpc.Plan(ctx, wire.FromPlan(r))
	return answerOf("Plan", m, err)
}

func (c *addonsClient) Probe(ctx context.Context, addon string) ([]changeset.ObjectReference, error) {
	m, err := c.rpc.Probe(ctx, &addonsv1.ProbeRequest{Addon: addon})
	if err != nil {
		return nil, answered(err)
	}
	var out []changeset.ObjectReference
	for _, o := range m.GetObjects() {
		out = append(out, wire.ToObject(o))
	}
	return out, nil
}
