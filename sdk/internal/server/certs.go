package server

import (
	"context"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/internal/wire"
	certsv1 "mk8s.io/mk/sdk/proto/mk/certs/v1"
)

type certsServer struct {
	certsv1.UnimplementedCertsServiceServer
	p certs.Plugin
}

func (s *certsServer) Bootstrap(ctx context.Context, m *certsv1.BootstrapRequest) (*certsv1.BootstrapResponse, error) {
	r, err := wire.ToBootstrap(m)
	if err != nil {
		return nil, refused("Bootstrap", err)
	}
	a, err := s.p.Bootstrap(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	return &certsv1.BootstrapResponse{Authority: wire.FromAuthority(a)}, nil
}

func (s *certsServer) Authorities(ctx context.Context, m *certsv1.AuthoritiesRequest) (*certsv1.AuthoritiesResponse, error) {
	a, err := s.p.Authorities(ctx, m.GetNames())
	if err != nil {
		return nil, wire.Status(err)
	}
	return wire.FromAuthorities(a), nil
}

func (s *certsServer) Sign(ctx context.Context, m *certsv1.SignRequest) (*certsv1.SignResponse, error) {
	r, err := wire.ToSign(m)
	if err != nil {
		return nil, refused("Sign", err)
	}
	results, err := s.p.Sign(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := wire.FromSigned(results)
	if err != nil {
		return nil, misanswered("Sign", err)
	}
	return out, nil
}

func (s *certsServer) Retire(ctx context.Context, m *certsv1.RetireRequest) (*certsv1.RetireResponse, error) {
	r := certs.RetireRequest{Call: wire.ToCall(m.GetCall()), Authority: m.GetAuthority(), Generation: m.GetGeneration()}
	return &certsv1.RetireResponse{}, wire.Status(s.p.Retire(ctx, r))
}

func (s *certsServer) CrossSign(ctx context.Context, m *certsv1.CrossSignRequest) (*certsv1.CrossSignResponse, error) {
	c, ok := s.p.(certs.CrossSigner)
	if !ok {
		return nil, unsupported("CrossSign")
	}
	r, err := wire.ToCrossSign(m)
	if err != nil {
		return nil, refused("CrossSign", err)
	}
	pem, err := c.CrossSign(ctx, r)
	return &certsv1.CrossSignResponse{Certificate: pem}, wire.Status(err)
}

func (s *certsServer) Revoke(ctx context.Context, m *certsv1.RevokeRequest) (*certsv1.RevokeResponse, error) {
	v, ok := s.p.(certs.Revoker)
	if !ok {
		return nil, unsupported("Revoke")
	}
	r := certs.RevokeRequest{Call: wire.ToCall(m.GetCall()), Authority: m.GetAuthority(), Serial: m.GetSerial(), Reason: m.GetReason()}
	return &certsv1.RevokeResponse{}, wire.Status(v.Revoke(ctx, r))
}
