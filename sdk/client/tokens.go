package client

import (
	"context"
	"fmt"

	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/plugin"
	tokensv1 "mk8s.io/mk/sdk/proto/mk/tokens/v1"
	"mk8s.io/mk/sdk/tokens"
)

type tokensClient struct {
	base
	rpc tokensv1.TokensServiceClient
}

func (c *tokensClient) Issue(ctx context.Context, r tokens.IssueRequest) (tokens.Issued, error) {
	req, err := wire.FromIssue(r)
	if err != nil {
		return tokens.Issued{}, err
	}
	m, err := c.rpc.Issue(ctx, req)
	if err != nil {
		return tokens.Issued{}, answered(err)
	}
	i, err := wire.ToIssued(m)
	return i, decoded("Issue", err)
}

func (c *tokensClient) Reserve(ctx context.Context, r tokens.ReserveRequest) (tokens.Reservation, error) {
	req, err := wire.FromReserve(r)
	if err != nil {
		return tokens.Reservation{}, err
	}
	m, err := c.rpc.Reserve(ctx, req)
	if err != nil {
		return tokens.Reservation{}, answered(err)
	}
	v, err := wire.ToReservation(m)
	return v, decoded("Reserve", err)
}

func (c *tokensClient) Commit(ctx context.Context, call plugin.Call, reservationID string) error {
	_, err := c.rpc.Commit(ctx, &tokensv1.CommitRequest{Call: wire.FromCall(call), ReservationId: reservationID})
	return answered(err)
}

func (c *tokensClient) Release(ctx context.Context, call plugin.Call, reservationID string) error {
	_, err := c.rpc.Release(ctx, &tokensv1.ReleaseRequest{Call: wire.FromCall(call), ReservationId: reservationID})
	return answered(err)
}

func (c *tokensClient) Revoke(ctx context.Context, call plugin.Call, id string) error {
	_, err := c.rpc.Revoke(ctx, &tokensv1.RevokeRequest{Call: wire.FromCall(call), Id: id})
	return answered(err)
}

func (c *tokensClient) List(ctx context.Context, expired bool) ([]tokens.Token, error) {
	m, err := c.rpc.List(ctx, &tokensv1.ListRequest{Expired: expired})
	if err != nil {
		return nil, answered(err)
	}
	out, err := wire.ToTokens(m)
	return out, decoded("List", err)
}

func (c *tokensClient) Static(ctx context.Context, call plugin.Call, want []tokens.Credential) ([]tokens.Credential, error) {
	m, err := c.rpc.Static(ctx, &tokensv1.StaticRequest{Call: wire.FromCall(call), Credentials: wire.FromCredentials(want)})
	if err != nil {
		return nil, answered(err)
	}
	got := wire.ToCredentials(m.GetCredentials())
	if len(got) != len(want) {
		return nil, decoded("Static", fmt.Errorf("%d credentials for %d asked", len(got), len(want)))
	}
	return got, nil
}
