package server

import (
	"context"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/internal/wire"
	addonsv1 "mk8s.io/mk/sdk/proto/mk/addons/v1"
)

type addonsServer struct {
	addonsv1.UnimplementedAddonsServiceServer
	p addons.Plugin
}

func (s *addonsServer) List(ctx context.Context, _ *addonsv1.ListRequest) (*addonsv1.ListResponse, error) {
	list, err := s.p.List(ctx)
	return wire.FromAddons(list), wire.Status(err)
}

func (s *addonsServer) Plan(ctx context.Context, m *addonsv1.PlanRequest) (*addonsv1.PlanResponse, error) {
	a, err := s.p.Plan(ctx, wire.ToPlan(m))
	out, err := sent("Plan", a, err)
	return &addonsv1.PlanResponse{Answer: out}, err
}

func (s *addonsServer) Probe(ctx context.Context, m *addonsv1.ProbeRequest) (*addonsv1.ProbeResponse, error) {
	list, err := s.p.Probe(ctx, m.GetAddon())
	out := &addonsv1.ProbeResponse{}
	for _, o := range list {
		out.Objects = append(out.Objects, wire.FromObject(o))
	}
	return out, wire.Status(err)
}
