package wire

import (
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	addonsv1 "mk8s.io/mk/sdk/proto/mk/addons/v1"
	clusteringv1 "mk8s.io/mk/sdk/proto/mk/clustering/v1"
	hostv1 "mk8s.io/mk/sdk/proto/mk/host/v1"
)

// FromServe encodes a request.
func FromServe(r clustering.ServeRequest) *clusteringv1.ServeRequest {
	m := &clusteringv1.ServeRequest{Call: FromCall(r.Call), Node: FromNode(r.Node), Method: r.Method, Path: r.Path,
		Headers: r.Headers, Body: r.Body, PeerAddress: r.PeerAddress, LocalAddress: r.LocalAddress,
		PeerCertificate: r.PeerCertificate, Host: r.Host, Members: FromMembers(r.Members)}
	if r.Reservation != nil {
		m.Reservation = fromJoinReservation(*r.Reservation)
	}
	return m
}

// ToServe decodes a request.
func ToServe(m *clusteringv1.ServeRequest) (clustering.ServeRequest, error) {
	r := clustering.ServeRequest{Call: ToCall(m.GetCall()), Node: ToNode(m.GetNode()), Method: m.GetMethod(), Path: m.GetPath(),
		Headers: m.GetHeaders(), Body: m.GetBody(), PeerAddress: m.GetPeerAddress(), LocalAddress: m.GetLocalAddress(),
		PeerCertificate: m.GetPeerCertificate(), Host: m.GetHost(), Members: ToMembers(m.GetMembers())}
	if v := m.GetReservation(); v != nil {
		held, err := toJoinReservation(v)
		if err != nil {
			return r, err
		}
		r.Reservation = &held
	}
	return r, checkBody(r.Body)
}

// FromServed encodes an answer.
func FromServed(s clustering.Served) (*clusteringv1.ServeResponse, error) {
	a, err := FromAnswer(s.Answer)
	if err != nil {
		return nil, err
	}
	m := &clusteringv1.ServeResponse{Status: uint32(max(s.Status, 0)), Headers: s.Headers, Body: s.Body, Answer: a}
	if s.Lease != nil {
		c, err := FromChangeSet(s.Lease.TakeBack)
		if err != nil {
			return nil, err
		}
		m.Lease = &clusteringv1.Lease{Until: fromTime(s.Lease.Until), TakeBack: c}
	}
	return m, nil
}

// ToServed decodes an answer. While the answer is not yet there is no status.
func ToServed(m *clusteringv1.ServeResponse) (clustering.Served, error) {
	a, err := ToAnswer(m.GetAnswer())
	if err != nil {
		return clustering.Served{}, err
	}
	s := clustering.Served{Headers: m.GetHeaders(), Body: m.GetBody(), Answer: a}
	if a.NotYet == nil || m.GetStatus() != 0 {
		if s.Status, err = toStatus(m.GetStatus()); err != nil {
			return s, err
		}
	}
	if l := m.GetLease(); l != nil {
		s.Lease = &clustering.Lease{}
		if s.Lease.Until, err = toTime("lease until", l.GetUntil()); err != nil {
			return s, err
		}
		if s.Lease.TakeBack, err = ToChangeSet(l.GetTakeBack()); err != nil {
			return s, err
		}
	}
	return s, nil
}

// FromPending encodes a list.
func FromPending(list []clustering.PendingJoin) *clusteringv1.PendingResponse {
	return &clusteringv1.PendingResponse{Joins: each(list, func(p clustering.PendingJoin) *clusteringv1.PendingJoin {
		return &clusteringv1.PendingJoin{Name: p.Name, Address: p.Address, Role: p.Role, Since: fromTime(p.Since), OperationId: p.OperationID}
	})}
}

// ToPending decodes a list.
func ToPending(m *clusteringv1.PendingResponse) ([]clustering.PendingJoin, error) {
	return eachFrom("join", m.GetJoins(), func(p *clusteringv1.PendingJoin) (clustering.PendingJoin, error) {
		t, err := toTime("since", p.GetSince())
		return clustering.PendingJoin{Name: p.GetName(), Address: p.GetAddress(), Role: p.GetRole(), Since: t, OperationID: p.GetOperationId()}, err
	})
}

// FromAddons encodes a list.
func FromAddons(list []addons.Addon) *addonsv1.ListResponse {
	return &addonsv1.ListResponse{Addons: each(list, func(a addons.Addon) *addonsv1.Addon {
		return &addonsv1.Addon{Name: a.Name, Description: a.Description, Version: a.Version, Requires: a.Requires,
			Images: a.Images, Arguments: a.Arguments}
	})}
}

// ToAddons decodes a list.
func ToAddons(m *addonsv1.ListResponse) []addons.Addon {
	return each(m.GetAddons(), func(a *addonsv1.Addon) addons.Addon {
		return addons.Addon{Name: a.GetName(), Description: a.GetDescription(), Version: a.GetVersion(), Requires: a.GetRequires(),
			Images: a.GetImages(), Arguments: a.GetArguments()}
	})
}

// FromPlan encodes a request.
func FromPlan(r addons.PlanRequest) *addonsv1.PlanRequest {
	return &addonsv1.PlanRequest{Call: FromCall(r.Call), Node: FromNode(r.Node), Addon: r.Addon, Enable: r.Enable,
		Arguments: r.Arguments, Values: r.Values, Enabled: r.Enabled}
}

// ToPlan decodes a request.
func ToPlan(m *addonsv1.PlanRequest) addons.PlanRequest {
	return addons.PlanRequest{Call: ToCall(m.GetCall()), Node: ToNode(m.GetNode()), Addon: m.GetAddon(), Enable: m.GetEnable(),
		Arguments: m.GetArguments(), Values: m.GetValues(), Enabled: m.GetEnabled()}
}

// FromPeer encodes a request to another node.
func FromPeer(r host.PeerRequest) *hostv1.PeerRequest {
	return &hostv1.PeerRequest{OperationId: r.OperationID, Node: r.Node, Method: r.Method, Path: r.Path, Headers: r.Headers, Body: r.Body}
}

// ToPeer decodes a request to another node.
func ToPeer(m *hostv1.PeerRequest) (host.PeerRequest, error) {
	return host.PeerRequest{OperationID: m.GetOperationId(), Node: m.GetNode(), Method: m.GetMethod(), Path: m.GetPath(),
		Headers: m.GetHeaders(), Body: m.GetBody()}, checkBody(m.GetBody())
}

// FromPeerResponse encodes another node's answer.
func FromPeerResponse(r host.PeerResponse) *hostv1.PeerResponse {
	return &hostv1.PeerResponse{Status: uint32(max(r.Status, 0)), Headers: r.Headers, Body: r.Body}
}

// ToPeerResponse decodes another node's answer.
func ToPeerResponse(m *hostv1.PeerResponse) (host.PeerResponse, error) {
	s, err := toStatus(m.GetStatus())
	return host.PeerResponse{Status: s, Headers: m.GetHeaders(), Body: m.GetBody()}, err
}
