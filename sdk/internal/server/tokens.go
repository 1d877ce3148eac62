package server

import (
	"context"

	"mk8s.io/mk/sdk/internal/wire"
	tokensv1 "mk8s.io/mk/sdk/proto/mk/tokens/v1"
	"mk8s.io/mk/sdk/tokens"
)

type tokensServer struct {
	tokensv1.UnimplementedTokensServiceServer
	p tokens.Plugin
}

func (s *tokensServer) Issue(ctx context.Context, m *tokensv1.IssueRequest) (*tokensv1.IssueResponse, error) {
	r, err := wire.ToIssue(m)
	if err != nil {
		return nil, refused("Issue", err)
	}
	i, err := s.p.Issue(ctx, r)
	return wire.FromIssued(i), wire.Status(err)
}

func (s *tokensServer) Reserve(ctx context.Context, m *tokensv1.ReserveRequest) (*tokensv1.ReserveResponse, error) {
	r, err := wire.ToReserve(m)
	if err != nil {
		return nil, refused("Reserve", err)
	}
	v, err := s.p.Reserve(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := wire.FromReservation(v)
	if err != nil {
		return nil, misanswered("Reserve", err)
	}
	return out, nil
}

func (s *tokensServer) Commit(ctx context.Context, m *tokensv1.CommitRequest) (*tokensv1.CommitResponse, error) {
	return &tokensv1.CommitResponse{}, wire.Status(s.p.Commit(ctx, wire.ToCall(m.GetCall()), m.GetReservationId()))
}

func (s *tokensServer) Release(ctx context.Context, m *tokensv1.ReleaseRequest) (*tokensv1.ReleaseResponse, error) {
	return &tokensv1.ReleaseResponse{}, wire.Status(s.p.Release(ctx, wire.ToCall(m.GetCall()), m.GetReservationId()))
}

func (s *tokensServer) Revoke(ctx context.Context, m *tokensv1.RevokeRequest) (*tokensv1.RevokeResponse, error) {
	return &tokensv1.RevokeResponse{}, wire.Status(s.p.Revoke(ctx, wire.ToCall(m.GetCall()), m.GetId()))
}

func (s *tokensServer) List(ctx context.Context, m *tokensv1.ListRequest) (*tokensv1.ListResponse, error) {
	list, err := s.p.List(ctx, m.GetExpired())
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := wire.FromTokens(list)
	if err != nil {
		return nil, misanswered("List", err)
	}
	return out, nil
}

func (s *tokensServer) Static(ctx context.Context, m *tokensv1.StaticRequest) (*tokensv1.StaticResponse, error) {
	got, err := s.p.Static(ctx, wire.ToCall(m.GetCall()), wire.ToCredentials(m.GetCredentials()))
	return &tokensv1.StaticResponse{Credentials: wire.FromCredentials(got)}, wire.Status(err)
}
