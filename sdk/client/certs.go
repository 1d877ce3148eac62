package client

import (
	"context"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/internal/wire"
	certsv1 "mk8s.io/mk/sdk/proto/mk/certs/v1"
)

type certsClient struct {
	base
	rpc certsv1.CertsServiceClient
}

func (c *certsClient) Bootstrap(ctx context.Context, r certs.BootstrapRequest) (certs.Authority, error) {
	m, err := c.rpc.Bootstrap(ctx, wire.FromBootstrap(r))
	if err != nil {
		return certs.Authority{}, answered(err)
	}
	a, err := wire.ToAuthority(m.GetAuthority())
	return a, decoded("Bootstrap", err)
}

func (c *certsClient) Authorities(ctx context.Context, names []string) ([]certs.Authority, error) {
	m, err := c.rpc.Authorities(ctx, &certsv1.AuthoritiesRequest{Names: names})
	if err != nil {
		return nil, answered(err)
	}
	a, err := wire.ToAuthorities(m)
	return a, decoded("Authorities", err)
}

func (c *certsClient) Sign(ctx context.Context, r certs.SignRequest) ([]certs.SignResult, error) {
	m, err := c.rpc.Sign(ctx, wire.FromSign(r))
	if err != nil {
		return nil, answered(err)
	}
	out, err := wire.ToSigned(m, r.Requests)
	return out, decoded("Sign", err)
}

func (c *certsClient) Retire(ctx context.Context, r certs.RetireRequest) error {
	_, err := c.rpc.Retire(ctx, &certsv1.RetireRequest{Call: wire.FromCall(r.Call), Authority: r.Authority, Generation: r.Generation})
	return answered(err)
}

func (c *certsClient) CrossSign(ctx context.Context, r certs.CrossSignRequest) ([]byte, error) {
	m, err := c.rpc.CrossSign(ctx, wire.FromCrossSign(r))
	return m.GetCertificate(), answered(err)
}

func (c *certsClient) Revoke(ctx context.Context, r certs.RevokeRequest) error {
	_, err := c.rpc.Revoke(ctx, &certsv1.RevokeRequest{Call: wire.FromCall(r.Call), Authority: r.Authority, Serial: r.Serial, Reason: r.Reason})
	return answered(err)
}
