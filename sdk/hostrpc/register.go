package hostrpc

import (
	"context"

	"google.golang.org/grpc"

	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/plugin"
	hostv1 "mk8s.io/mk/sdk/proto/mk/host/v1"
	tokensv1 "mk8s.io/mk/sdk/proto/mk/tokens/v1"
)

// Register serves a host. It checks the form of requests only.
func Register(s grpc.ServiceRegistrar, h host.Host) {
	hostv1.RegisterHostServiceServer(s, &server{h: h})
}

type server struct {
	hostv1.UnimplementedHostServiceServer
	h host.Host
}

func refused(err error) error {
	return wire.Status(plugin.Errorf(plugin.BadArgument, "%v", err))
}

func (s *server) Issue(ctx context.Context, m *hostv1.IssueRequest) (*hostv1.IssueResponse, error) {
	r, err := wire.ToIssue(m.GetRequest())
	if err != nil {
		return nil, refused(err)
	}
	i, err := s.h.Issue(ctx, r)
	return &hostv1.IssueResponse{Response: wire.FromIssued(i)}, wire.Status(err)
}

func (s *server) Reserve(ctx context.Context, m *hostv1.ReserveRequest) (*hostv1.ReserveResponse, error) {
	r, err := wire.ToReserve(m.GetRequest())
	if err != nil {
		return nil, refused(err)
	}
	v, err := s.h.Reserve(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := wire.FromReservation(v)
	return &hostv1.ReserveResponse{Response: out}, wire.Status(err)
}

func (s *server) Commit(ctx context.Context, m *hostv1.CommitRequest) (*hostv1.CommitResponse, error) {
	r := m.GetRequest()
	return &hostv1.CommitResponse{Response: &tokensv1.CommitResponse{}},
		wire.Status(s.h.Commit(ctx, wire.ToCall(r.GetCall()), r.GetReservationId()))
}

func (s *server) Release(ctx context.Context, m *hostv1.ReleaseRequest) (*hostv1.ReleaseResponse, error) {
	r := m.GetRequest()
	return &hostv1.ReleaseResponse{Response: &tokensv1.ReleaseResponse{}},
		wire.Status(s.h.Release(ctx, wire.ToCall(r.GetCall()), r.GetReservationId()))
}

func (s *server) Sign(ctx context.Context, m *hostv1.SignRequest) (*hostv1.SignResponse, error) {
	r, err := wire.ToSign(m.GetRequest())
	if err != nil {
		return nil, refused(err)
	}
	results, err := s.h.Sign(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := wire.FromSigned(results)
	return &hostv1.SignResponse{Response: out}, wire.Status(err)
}

func (s *server) Authorities(ctx context.Context, m *hostv1.AuthoritiesRequest) (*hostv1.AuthoritiesResponse, error) {
	list, err := s.h.Authorities(ctx, m.GetRequest().GetNames())
	return &hostv1.AuthoritiesResponse{Response: wire.FromAuthorities(list)}, wire.Status(err)
}

func (s *server) Peer(ctx context.Context, m *hostv1.PeerRequest) (*hostv1.PeerResponse, error) {
	r, err := wire.ToPeer(m)
	if err != nil {
		return nil, refused(err)
	}
	out, err := s.h.Peer(ctx, r)
	return wire.FromPeerResponse(out), wire.Status(err)
}

func (s *server) Read(ctx context.Context, m *hostv1.ReadRequest) (*hostv1.ReadResponse, error) {
	f, err := s.h.Read(ctx, m.GetPath())
	return &hostv1.ReadResponse{Content: f.Content, Absent: f.Absent, Digest: f.Digest}, wire.Status(err)
}

func (s *server) Progress(ctx context.Context, m *hostv1.ProgressRequest) (*hostv1.ProgressResponse, error) {
	return &hostv1.ProgressResponse{}, wire.Status(s.h.Progress(ctx, m.GetOperationId(), m.GetMessage()))
}
