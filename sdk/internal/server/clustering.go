package server

import (
	"context"

	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/plugin"
	clusteringv1 "mk8s.io/mk/sdk/proto/mk/clustering/v1"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

type clusteringServer struct {
	clusteringv1.UnimplementedClusteringServiceServer
	p clustering.Plugin
}

// sent encodes what a question was answered with.
func sent(verb string, a plugin.Answer, err error) (*pluginv1.Answer, error) {
	if err != nil {
		return nil, wire.Status(err)
	}
	m, err := wire.FromAnswer(a)
	if err != nil {
		return nil, misanswered(verb, err)
	}
	return m, nil
}

func (s *clusteringServer) Init(ctx context.Context, m *clusteringv1.InitRequest) (*clusteringv1.InitResponse, error) {
	a, err := s.p.Init(ctx, clustering.InitRequest{Call: wire.ToCall(m.GetCall()), Node: wire.ToNode(m.GetNode())})
	out, err := sent("Init", a, err)
	return &clusteringv1.InitResponse{Answer: out}, err
}

func (s *clusteringServer) Invite(ctx context.Context, m *clusteringv1.InviteRequest) (*clusteringv1.InviteResponse, error) {
	r, err := wire.ToInvite(m)
	if err != nil {
		return nil, refused("Invite", err)
	}
	i, err := s.p.Invite(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := wire.FromInvitation(i)
	if err != nil {
		return nil, misanswered("Invite", err)
	}
	return out, nil
}

func (s *clusteringServer) Admit(ctx context.Context, m *clusteringv1.AdmitRequest) (*clusteringv1.AdmitResponse, error) {
	r, err := wire.ToAdmit(m)
	if err != nil {
		return nil, refused("Admit", err)
	}
	v, err := s.p.Admit(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := wire.FromVerdict(v)
	if err != nil {
		return nil, misanswered("Admit", err)
	}
	return out, nil
}

func (s *clusteringServer) Join(ctx context.Context, m *clusteringv1.JoinRequest) (*clusteringv1.JoinResponse, error) {
	r, err := wire.ToJoin(m)
	if err != nil {
		return nil, refused("Join", err)
	}
	a, err := s.p.Join(ctx, r)
	out, err := sent("Join", a, err)
	return &clusteringv1.JoinResponse{Answer: out}, err
}

func (s *clusteringServer) Leave(ctx context.Context, m *clusteringv1.LeaveRequest) (*clusteringv1.LeaveResponse, error) {
	a, err := s.p.Leave(ctx, wire.ToLeave(m))
	out, err := sent("Leave", a, err)
	return &clusteringv1.LeaveResponse{Answer: out}, err
}

func (s *clusteringServer) Remove(ctx context.Context, m *clusteringv1.RemoveRequest) (*clusteringv1.RemoveResponse, error) {
	a, err := s.p.Remove(ctx, wire.ToRemove(m))
	out, err := sent("Remove", a, err)
	return &clusteringv1.RemoveResponse{Answer: out}, err
}

func (s *clusteringServer) Abort(ctx context.Context, m *clusteringv1.AbortRequest) (*clusteringv1.AbortResponse, error) {
	a, err := s.p.Abort(ctx, wire.ToAbort(m))
	out, err := sent("Abort", a, err)
	return &clusteringv1.AbortResponse{Answer: out}, err
}

func (s *clusteringServer) Serve(ctx context.Context, m *clusteringv1.ServeRequest) (*clusteringv1.ServeResponse, error) {
	r, err := wire.ToServe(m)
	if err != nil {
		return nil, refused("Serve", err)
	}
	v, err := s.p.Serve(ctx, r)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := wire.FromServed(v)
	if err != nil {
		return nil, misanswered("Serve", err)
	}
	return out, nil
}

func (s *clusteringServer) Members(ctx context.Context, m *clusteringv1.MembersRequest) (*clusteringv1.MembersResponse, error) {
	list, err := s.p.Members(ctx, wire.ToNode(m.GetNode()))
	return &clusteringv1.MembersResponse{Members: wire.FromMembers(list)}, wire.Status(err)
}

func (s *clusteringServer) Pending(ctx context.Context, _ *clusteringv1.PendingRequest) (*clusteringv1.PendingResponse, error) {
	a, ok := s.p.(clustering.Approver)
	if !ok {
		return nil, unsupported("Pending")
	}
	list, err := a.Pending(ctx)
	return wire.FromPending(list), wire.Status(err)
}

func (s *clusteringServer) Decide(ctx context.Context, m *clusteringv1.DecideRequest) (*clusteringv1.DecideResponse, error) {
	a, ok := s.p.(clustering.Approver)
	if !ok {
		return nil, unsupported("Decide")
	}
	d := clustering.Decision{Call: wire.ToCall(m.GetCall()), Name: m.GetName(), Approve: m.GetApprove(), Reason: m.GetReason()}
	return &clusteringv1.DecideResponse{}, wire.Status(a.Decide(ctx, d))
}
