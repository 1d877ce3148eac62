package wire

import (
	"errors"
	"fmt"

	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
	clusteringv1 "mk8s.io/mk/sdk/proto/mk/clustering/v1"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

// FromInvite encodes a request.
func FromInvite(r clustering.InviteRequest) *clusteringv1.InviteRequest {
	return &clusteringv1.InviteRequest{Call: FromCall(r.Call), Node: FromNode(r.Node), Role: r.Role,
		Lifetime: fromDuration(r.Lifetime), Uses: r.Uses, Token: r.Token, Fingerprint: r.Fingerprint}
}

// ToInvite decodes a request.
func ToInvite(m *clusteringv1.InviteRequest) (clustering.InviteRequest, error) {
	d, err := toDuration("lifetime", m.GetLifetime())
	return clustering.InviteRequest{Call: ToCall(m.GetCall()), Node: ToNode(m.GetNode()), Role: m.GetRole(), Lifetime: d,
		Uses: m.GetUses(), Token: m.GetToken(), Fingerprint: m.GetFingerprint()}, err
}

// FromInvitation encodes an answer.
func FromInvitation(i clustering.Invitation) (*clusteringv1.InviteResponse, error) {
	a, err := FromAnswer(i.Answer)
	return &clusteringv1.InviteResponse{Token: i.Token, ConnectionStrings: i.ConnectionStrings,
		Expires: fromTime(i.Expires), Answer: a}, err
}

// ToInvitation decodes an answer.
func ToInvitation(m *clusteringv1.InviteResponse) (clustering.Invitation, error) {
	a, err := ToAnswer(m.GetAnswer())
	if err != nil {
		return clustering.Invitation{}, err
	}
	t, err := toTime("expires", m.GetExpires())
	return clustering.Invitation{Token: m.GetToken(), ConnectionStrings: m.GetConnectionStrings(), Expires: t, Answer: a}, err
}

func fromJoinReservation(r clustering.Reservation) *clusteringv1.Reservation {
	return &clusteringv1.Reservation{Id: r.ID, Role: r.Role, BoundNames: r.BoundNames, Until: fromTime(r.Until)}
}

func toJoinReservation(m *clusteringv1.Reservation) (clustering.Reservation, error) {
	t, err := toTime("reservation until", m.GetUntil())
	return clustering.Reservation{ID: m.GetId(), Role: m.GetRole(), BoundNames: m.GetBoundNames(), Until: t}, err
}

// FromAdmit encodes a request.
func FromAdmit(r clustering.AdmitRequest) *clusteringv1.AdmitRequest {
	return &clusteringv1.AdmitRequest{Call: FromCall(r.Call), Node: FromNode(r.Node), Joiner: FromNode(r.Joiner),
		Reservation: fromJoinReservation(r.Reservation)}
}

// ToAdmit decodes a request.
func ToAdmit(m *clusteringv1.AdmitRequest) (clustering.AdmitRequest, error) {
	v, err := toJoinReservation(m.GetReservation())
	return clustering.AdmitRequest{Call: ToCall(m.GetCall()), Node: ToNode(m.GetNode()), Joiner: ToNode(m.GetJoiner()),
		Reservation: v}, err
}

// FromVerdict encodes an answer.
func FromVerdict(v clustering.Verdict) (*clusteringv1.AdmitResponse, error) {
	m, set := &clusteringv1.AdmitResponse{}, 0
	if v.Admitted != nil {
		set++
		m.Verdict = &clusteringv1.AdmitResponse_Admitted{Admitted: &clusteringv1.Admitted{Facts: v.Admitted.Facts}}
	}
	if v.NotYet != nil {
		set++
		m.Verdict = &clusteringv1.AdmitResponse_NotYet{NotYet: fromNotYet(v.NotYet)}
	}
	if v.Denied != nil {
		set++
		m.Verdict = &clusteringv1.AdmitResponse_Denied{
			Denied: &clusteringv1.Denied{Reason: string(v.Denied.Reason), Message: v.Denied.Message}}
	}
	if set != 1 {
		return nil, fmt.Errorf("%d verdicts are set, one must be", set)
	}
	return m, nil
}

// ToVerdict decodes an answer.
func ToVerdict(m *clusteringv1.AdmitResponse) (clustering.Verdict, error) {
	switch v := m.GetVerdict().(type) {
	case *clusteringv1.AdmitResponse_Admitted:
		return clustering.Verdict{Admitted: &clustering.Admitted{Facts: v.Admitted.GetFacts()}}, nil
	case *clusteringv1.AdmitResponse_NotYet:
		n := v.NotYet
		if n == nil {
			n = &pluginv1.NotYet{}
		}
		y, err := toNotYet(n)
		return clustering.Verdict{NotYet: y}, err
	case *clusteringv1.AdmitResponse_Denied:
		return clustering.Verdict{Denied: &clustering.Denied{
			Reason: toReason(v.Denied.GetReason()), Message: Clean(v.Denied.GetMessage())}}, nil
	}
	return clustering.Verdict{}, errors.New("no verdict that this version knows")
}

// FromJoin encodes a request.
func FromJoin(r clustering.JoinRequest) *clusteringv1.JoinRequest {
	return &clusteringv1.JoinRequest{Call: FromCall(r.Call), Node: FromNode(r.Node), Server: FromNode(r.Server),
		Reservation: fromJoinReservation(r.Reservation), Facts: r.Facts, NoVote: r.NoVote}
}

// ToJoin decodes a request.
func ToJoin(m *clusteringv1.JoinRequest) (clustering.JoinRequest, error) {
	v, err := toJoinReservation(m.GetReservation())
	return clustering.JoinRequest{Call: ToCall(m.GetCall()), Node: ToNode(m.GetNode()), Server: ToNode(m.GetServer()),
		Reservation: v, Facts: m.GetFacts(), NoVote: m.GetNoVote()}, err
}

// FromMembers encodes a list.
func FromMembers(list []clustering.Member) []*clusteringv1.Member {
	return each(list, func(m clustering.Member) *clusteringv1.Member {
		return &clusteringv1.Member{Name: m.Name, PeerAddress: m.PeerAddress, ClientAddress: m.ClientAddress, Role: m.Role}
	})
}

// ToMembers decodes a list.
func ToMembers(list []*clusteringv1.Member) []clustering.Member {
	return each(list, func(m *clusteringv1.Member) clustering.Member {
		return clustering.Member{Name: m.GetName(), PeerAddress: m.GetPeerAddress(), ClientAddress: m.GetClientAddress(), Role: m.GetRole()}
	})
}

// FromLeave encodes a request.
func FromLeave(r clustering.LeaveRequest) *clusteringv1.LeaveRequest {
	return &clusteringv1.LeaveRequest{Call: FromCall(r.Call), Node: FromNode(r.Node), Members: FromMembers(r.Members), Force: r.Force}
}

// ToLeave decodes a request.
func ToLeave(m *clusteringv1.LeaveRequest) clustering.LeaveRequest {
	return clustering.LeaveRequest{Call: ToCall(m.GetCall()), Node: ToNode(m.GetNode()), Members: ToMembers(m.GetMembers()), Force: m.GetForce()}
}

// FromRemove encodes a request.
func FromRemove(r clustering.RemoveRequest) *clusteringv1.RemoveRequest {
	return &clusteringv1.RemoveRequest{Call: FromCall(r.Call), Node: FromNode(r.Node), Target: FromNode(r.Target),
		Members: FromMembers(r.Members), Force: r.Force}
}

// ToRemove decodes a request.
func ToRemove(m *clusteringv1.RemoveRequest) clustering.RemoveRequest {
	return clustering.RemoveRequest{Call: ToCall(m.GetCall()), Node: ToNode(m.GetNode()), Target: ToNode(m.GetTarget()),
		Members: ToMembers(m.GetMembers()), Force: m.GetForce()}
}

// FromAbort encodes a request.
func FromAbort(r clustering.AbortRequest) *clusteringv1.AbortRequest {
	return &clusteringv1.AbortRequest{Call: FromCall(r.Call), Node: FromNode(r.Node), Question: r.Question,
		Steps: each(r.Steps, func(s plugin.Step) *pluginv1.Step { return &pluginv1.Step{Name: s.Name, State: s.State} })}
}

// ToAbort decodes a request.
func ToAbort(m *clusteringv1.AbortRequest) clustering.AbortRequest {
	return clustering.AbortRequest{Call: ToCall(m.GetCall()), Node: ToNode(m.GetNode()), Question: m.GetQuestion(),
		Steps: each(m.GetSteps(), toStep)}
}
