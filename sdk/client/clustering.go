package client

import (
	"context"

	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/plugin"
	clusteringv1 "mk8s.io/mk/sdk/proto/mk/clustering/v1"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

type clusteringClient struct {
	base
	rpc clusteringv1.ClusteringServiceClient
}

// answerer is a response that holds an Answer.
type answerer interface{ GetAnswer() *pluginv1.Answer }

func answerOf(verb string, m answerer, err error) (plugin.Answer, error) {
	if err != nil {
		return plugin.Answer{}, answered(err)
	}
	return answer(verb, m.GetAnswer())
}

func (c *clusteringClient) Init(ctx context.Context, r clustering.InitRequest) (plugin.Answer, error) {
	m, err := c.rpc.Init(ctx, &clusteringv1.InitRequest{Call: wire.FromCall(r.Call), Node: wire.FromNode(r.Node)})
	return answerOf("Init", m, err)
}

func (c *clusteringClient) Invite(ctx context.Context, r clustering.InviteRequest) (clustering.Invitation, error) {
	m, err := c.rpc.Invite(ctx, wire.FromInvite(r))
	if err != nil {
		return clustering.Invitation{}, answered(err)
	}
	i, err := wire.ToInvitation(m)
	if err == nil {
		err = check(i.Answer.Changes)
	}
	return i, decoded("Invite", err)
}

func (c *clusteringClient) Members(ctx context.Context, node plugin.Node) ([]clustering.Member, error) {
	m, err := c.rpc.Members(ctx, &clusteringv1.MembersRequest{Node: wire.FromNode(node)})
	return wire.ToMembers(m.GetMembers()), answered(err)
}

func (c *clusteringClient) Join(ctx context.Context, r clustering.JoinRequest) (plugin.Answer, error) {
	m, err := c.rpc.Join(ctx, wire.FromJoin(r))
	return answerOf("Join", m, err)
}

func (c *clusteringClient) Leave(ctx context.Context, r clustering.LeaveRequest) (plugin.Answer, error) {
	m, err := c.rpc.Leave(ctx, wire.FromLeave(r))
	return answerOf("Leave", m, err)
}

func (c *clusteringClient) Remove(ctx context.Context, r clustering.RemoveRequest) (plugin.Answer, error) {
	m, err := c.rpc.Remove(ctx, wire.FromRemove(r))
	return answerOf("Remove", m, err)
}

func (c *clusteringClient) Abort(ctx context.Context, r clustering.AbortRequest) (plugin.Answer, error) {
	m, err := c.rpc.Abort(ctx, wire.FromAbort(r))
	return answerOf("Abort", m, err)
}

func (c *clusteringClient) Admit(ctx context.Context, r clustering.AdmitRequest) (clustering.Verdict, error) {
	m, err := c.rpc.Admit(ctx, wire.FromAdmit(r))
	if err != nil {
		return clustering.Verdict{}, answered(err)
	}
	v, err := wire.ToVerdict(m)
	return v, decoded("Admit", err)
}

func (c *clusteringClient) Serve(ctx context.Context, r clustering.ServeRequest) (clustering.Served, error) {
	m, err := c.rpc.Serve(ctx, wire.FromServe(r))
	if err != nil {
		return clustering.Served{}, answered(err)
	}
	s, err := wire.ToServed(m)
	if err == nil {
		err = check(s.Answer.Changes)
	}
	if err == nil && s.Lease != nil {
		err = check(s.Lease.TakeBack)
	}
	return s, decoded("Serve", err)
}

func (c *clusteringClient) Pending(ctx context.Context) ([]clustering.PendingJoin, error) {
	m, err := c.rpc.Pending(ctx, &clusteringv1.PendingRequest{})
	if err != nil {
		return nil, answered(err)
	}
	out, err := wire.ToPending(m)
	return out, decoded("Pending", err)
}

func (c *clusteringClient) Decide(ctx context.Context, d clustering.Decision) error {
	_, err := c.rpc.Decide(ctx, &clusteringv1.DecideRequest{Call: wire.FromCall(d.Call), Name: d.Name, Approve: d.Approve, Reason: d.Reason})
	return answered(err)
}
