// Package hostrpc carries host.Host over a unix socket: Dial for plugins,
// Register for the host. Who may ask what is the host's to decide; one socket
// per started plugin gives it the identity.
package hostrpc

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/peercred"
	"mk8s.io/mk/sdk/plugin"
	certsv1 "mk8s.io/mk/sdk/proto/mk/certs/v1"
	hostv1 "mk8s.io/mk/sdk/proto/mk/host/v1"
	tokensv1 "mk8s.io/mk/sdk/proto/mk/tokens/v1"
	"mk8s.io/mk/sdk/tokens"
)

// Client is a host.Host at the other end of a connection.
type Client struct {
	rpc  hostv1.HostServiceClient
	conn *grpc.ClientConn // nil where the connection is another's
}

var _ host.Host = (*Client)(nil)

// New speaks over a connection that the caller closes.
func New(conn grpc.ClientConnInterface) *Client {
	return &Client{rpc: hostv1.NewHostServiceClient(conn)}
}

// Dial prepares a connection to the host's socket; it is made with the first
// call. The host must run as root or as this process's user.
func Dial(socket string) (*Client, error) {
	opts := append(client.DialOptions(nil), grpc.WithTransportCredentials(peercred.New(peercred.RootOrSelf)))
	conn, err := grpc.NewClient("unix:"+socket, opts...)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to the host: %w", err)
	}
	c := New(conn)
	c.conn = conn
	return c, nil
}

// Close ends the connection that Dial made.
func (c *Client) Close() error {
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// Issue has the active tokens plugin make a token.
func (c *Client) Issue(ctx context.Context, r tokens.IssueRequest) (tokens.Issued, error) {
	req, err := wire.FromIssue(r)
	if err != nil {
		return tokens.Issued{}, err
	}
	m, err := c.rpc.Issue(ctx, &hostv1.IssueRequest{Request: req})
	if err != nil {
		return tokens.Issued{}, wire.FromStatus(err)
	}
	return wire.ToIssued(m.GetResponse())
}

// Reserve has the active tokens plugin reserve a use of a token.
func (c *Client) Reserve(ctx context.Context, r tokens.ReserveRequest) (tokens.Reservation, error) {
	req, err := wire.FromReserve(r)
	if err != nil {
		return tokens.Reservation{}, err
	}
	m, err := c.rpc.Reserve(ctx, &hostv1.ReserveRequest{Request: req})
	if err != nil {
		return tokens.Reservation{}, wire.FromStatus(err)
	}
	return wire.ToReservation(m.GetResponse())
}

// Commit spends a reservation.
func (c *Client) Commit(ctx context.Context, call plugin.Call, reservationID string) error {
	_, err := c.rpc.Commit(ctx, &hostv1.CommitRequest{Request: &tokensv1.CommitRequest{Call: wire.FromCall(call), ReservationId: reservationID}})
	return wire.FromStatus(err)
}

// Release gives a reservation back.
func (c *Client) Release(ctx context.Context, call plugin.Call, reservationID string) error {
	_, err := c.rpc.Release(ctx, &hostv1.ReleaseRequest{Request: &tokensv1.ReleaseRequest{Call: wire.FromCall(call), ReservationId: reservationID}})
	return wire.FromStatus(err)
}

// Sign has certificates signed, under the core's policy.
func (c *Client) Sign(ctx context.Context, r certs.SignRequest) ([]certs.SignResult, error) {
	m, err := c.rpc.Sign(ctx, &hostv1.SignRequest{Request: wire.FromSign(r)})
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	return wire.ToSigned(m.GetResponse(), r.Requests)
}

// Authorities says what is trusted.
func (c *Client) Authorities(ctx context.Context, names []string) ([]certs.Authority, error) {
	m, err := c.rpc.Authorities(ctx, &hostv1.AuthoritiesRequest{Request: &certsv1.AuthoritiesRequest{Names: names}})
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	return wire.ToAuthorities(m.GetResponse())
}

// Peer sends a request to another node's agent.
func (c *Client) Peer(ctx context.Context, r host.PeerRequest) (host.PeerResponse, error) {
	m, err := c.rpc.Peer(ctx, wire.FromPeer(r))
	if err != nil {
		return host.PeerResponse{}, wire.FromStatus(err)
	}
	return wire.ToPeerResponse(m)
}

// Read answers a file that the grants name.
func (c *Client) Read(ctx context.Context, path string) (host.File, error) {
	m, err := c.rpc.Read(ctx, &hostv1.ReadRequest{Path: path})
	return host.File{Content: m.GetContent(), Absent: m.GetAbsent(), Digest: m.GetDigest()}, wire.FromStatus(err)
}

// Progress shows a line to whoever waits.
func (c *Client) Progress(ctx context.Context, operationID, message string) error {
	_, err := c.rpc.Progress(ctx, &hostv1.ProgressRequest{OperationId: operationID, Message: message})
	return wire.FromStatus(err)
}
