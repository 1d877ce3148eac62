package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
)

// The routes that a joiner asks on the node that serves it.
const (
	memberRoute  = "/etcd/member"
	promoteRoute = "/etcd/promote"
)

// promoteStep is the point of no return: the joiner votes.
const promoteStep = "promote"

const (
	askAgain = time.Second
	// lease is how long a learner stays without a word of its node.
	lease = 10 * time.Minute
)

// routes and steps are what Describe says of growing.
func routes() []plugin.Route {
	return []plugin.Route{
		{Method: http.MethodPost, Path: memberRoute, Reserved: true},
		{Method: http.MethodPost, Path: promoteRoute, Reserved: true},
	}
}

func steps() []plugin.StepDescription {
	return []plugin.StepDescription{
		{Question: "Join", Name: promoteStep, Revocable: false, Summary: "the node votes in the datastore"},
	}
}

// entry is a member on the wire between two nodes' plugins.
type entry struct {
	Name string `json:"name"`
	Peer string `json:"peer"`
}

// Join makes this node a member of the datastore: first a learner, which is
// started and catches up, then a voter. It begins each step by asking what is
// already so.
func (p *Etcd) Join(ctx context.Context, r clustering.JoinRequest) (plugin.Answer, error) {
	if err := checkNode(r.Node); err != nil {
		return plugin.Answer{}, err
	}
	own := entry{Name: r.Node.Name, Peer: "https://" + join(r.Node.Address, peerPort)}
	if r.Call.Step.Name == promoteStep {
		_, notYet, err := p.ask(ctx, r.Call, promoteRoute, own)
		return plugin.Answer{NotYet: notYet}, err
	}
	body, notYet, err := p.ask(ctx, r.Call, memberRoute, own)
	if err != nil || notYet != nil {
		return plugin.Answer{NotYet: notYet}, err
	}
	var members []entry
	if err := json.Unmarshal(body, &members); err != nil {
		return plugin.Answer{}, plugin.Errorf(plugin.Unavailable, "the serving node's answer cannot be read: %v", err)
	}
	cluster, err := initialCluster(members, own)
	if err != nil {
		return plugin.Answer{}, err
	}
	b := changeset.Build()
	b.MakeFolder(backend + "/etcd").Mode(0o700)
	b.WriteFile(initFile, fmt.Appendf(nil, "Address: %s\n", join(r.Node.Address, peerPort))).Mode(0o640).
		Because("where this node's datastore is reached")
	b.IssueCertificate("datastore").Because("the datastore's peers, server and clients")
	b.IssueCertificate("datastore-client").Because("the API server's way to the datastore")
	for _, o := range arguments(r.Node) {
		switch o[0] {
		case "initial-cluster":
			o[1] = cluster
		case "initial-cluster-state":
			o[1] = "existing"
		}
		b.SetArgument("etcd", o[0], o[1])
	}
	b.Start("etcd").Because("it catches up before it votes")
	return plugin.Answer{Changes: b.ChangeSet(), Next: plugin.Step{Name: promoteStep}}, nil
}

// initialCluster names every member as etcd wants it. A member that was never
// started has no name: the joiner's own entry stands for it.
func initialCluster(members []entry, own entry) (string, error) {
	all := slices.DeleteFunc(slices.Clone(members), func(e entry) bool { return e.Peer == own.Peer })
	all = append(all, own)
	var out []string
	for _, e := range all {
		if e.Name == "" || strings.ContainsAny(e.Name+e.Peer, ",= \n") || !strings.HasPrefix(e.Peer, "https://") {
			return "", plugin.Errorf(plugin.Unavailable, "the member %q at %q cannot be used", e.Name, e.Peer)
		}
		out = append(out, e.Name+"="+e.Peer)
	}
	slices.Sort(out)
	return strings.Join(out, ","), nil
}

// ask sends to a route of the serving node. 503 says: later.
func (p *Etcd) ask(ctx context.Context, call plugin.Call, route string, own entry) ([]byte, *plugin.NotYet, error) {
	h, err := p.host()
	if err != nil {
		return nil, nil, fmt.Errorf("reach the serving node: %w", err)
	}
	body, err := json.Marshal(own)
	if err != nil {
		return nil, nil, fmt.Errorf("reach the serving node: %w", err)
	}
	answer, err := h.Peer(ctx, host.PeerRequest{OperationID: call.OperationID, Method: http.MethodPost, Path: route, Body: body})
	if err != nil {
		return nil, nil, err
	}
	switch answer.Status {
	case http.StatusOK:
		return answer.Body, nil, nil
	case http.StatusServiceUnavailable:
		return nil, &plugin.NotYet{RetryAfter: askAgain, WaitingFor: strings.ToValidUTF8(string(answer.Body[:min(len(answer.Body), 500)]), "?")}, nil
	}
	var problem struct {
		Error struct {
			Reason  plugin.Reason `json:"reason"`
			Message string        `json:"message"`
			Next    string        `json:"next"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer.Body, &problem); err != nil || problem.Error.Message == "" {
		return nil, nil, plugin.Errorf(plugin.Unavailable, "the serving node answers %d", answer.Status)
	}
	return nil, nil, &plugin.Error{Reason: problem.Error.Reason, Message: problem.Error.Message, Next: problem.Error.Next}
}

// Serve answers a joiner on the node that serves it.
func (p *Etcd) Serve(_ context.Context, r clustering.ServeRequest) (clustering.Served, error) {
	if r.Method != http.MethodPost || (r.Path != memberRoute && r.Path != promoteRoute) {
		return clustering.Served{}, plugin.Errorf(plugin.Unsupported, "there is no route %.10q %.100q", r.Method, strings.ToValidUTF8(r.Path, "?"))
	}
	var joiner entry
	if err := json.Unmarshal(r.Body, &joiner); err != nil {
		return clustering.Served{}, plugin.Errorf(plugin.BadArgument, "the request cannot be read: %v", err)
	}
	if err := checkJoiner(joiner, r.Reservation); err != nil {
		return clustering.Served{}, err
	}
	at := slices.IndexFunc(r.Members, func(m clustering.Member) bool { return m.PeerAddress == joiner.Peer })
	if r.Path == promoteRoute {
		return promote(r.Members, at, joiner)
	}
	return learn(r.Members, at, joiner)
}

// learn adds a learner; etcd takes one at a time.
func learn(members []clustering.Member, at int, joiner entry) (clustering.Served, error) {
	out := clustering.Served{Status: http.StatusOK}
	entries := []entry{}
	for i, m := range members {
		if i != at && m.Role == "learner" {
			who := m.Name
			if who == "" {
				who = m.PeerAddress
			}
			return clustering.Served{Answer: plugin.Answer{NotYet: &plugin.NotYet{
				RetryAfter: askAgain, WaitingFor: who + " joins just now: one node at a time"}}}, nil
		}
		entries = append(entries, entry{Name: m.Name, Peer: m.PeerAddress})
	}
	if at < 0 || members[at].Role == "learner" {
		back := changeset.Build()
		back.ChangeMember(changeset.RemoveMember, joiner.Peer, joiner.Name)
		out.Lease = &clustering.Lease{Until: time.Now().Add(lease), TakeBack: back.ChangeSet()}
	}
	if at < 0 {
		b := changeset.Build()
		b.ChangeMember(changeset.AddLearner, joiner.Peer, joiner.Name)
		out.Answer.Changes = b.ChangeSet()
		entries = append(entries, joiner)
	}
	body, err := json.Marshal(entries)
	if err != nil {
		return clustering.Served{}, fmt.Errorf("answer the members: %w", err)
	}
	out.Body = body
	return out, nil
}

// promote makes a learner a voter. From there nobody takes the join back.
func promote(members []clustering.Member, at int, joiner entry) (clustering.Served, error) {
	if at < 0 {
		return clustering.Served{}, plugin.Errorf(plugin.NotPossible, "%s is no member of the datastore: its join was taken back", joiner.Peer)
	}
	out := clustering.Served{Status: http.StatusOK, Lease: &clustering.Lease{}}
	if members[at].Role == "learner" {
		b := changeset.Build()
		b.ChangeMember(changeset.Promote, joiner.Peer, joiner.Name)
		out.Answer.Changes = b.ChangeSet()
	}
	return out, nil
}

// checkJoiner holds what a joiner says of itself to what it was admitted as.
func checkJoiner(j entry, r *clustering.Reservation) error {
	u, err := url.Parse(j.Peer)
	if err != nil || u.Scheme != "https" || u.Path != "" || u.User != nil || u.RawQuery != "" {
		return plugin.Errorf(plugin.BadArgument, "the peer address %.100q is none", j.Peer)
	}
	a, err := netip.ParseAddrPort(u.Host)
	if err != nil || a.Port() != peerPort || a.Addr().IsLoopback() || a.Addr().IsUnspecified() {
		return plugin.Errorf(plugin.BadArgument, "the peer address %.100q is none that others reach", j.Peer)
	}
	if r == nil || r.Role != plugin.RoleControlPlane || !slices.Contains(r.BoundNames, j.Name) {
		return plugin.Errorf(plugin.NotPossible, "%.80q was not admitted as a control-plane node", j.Name)
	}
	return nil
}

// Leave takes this node's member out. The last one stays: with it the data
// would go.
func (p *Etcd) Leave(_ context.Context, r clustering.LeaveRequest) (plugin.Answer, error) {
	return goes(r.Node, r.Members)
}

// Remove takes another node's member out.
func (p *Etcd) Remove(_ context.Context, r clustering.RemoveRequest) (plugin.Answer, error) {
	return goes(r.Target, r.Members)
}

func goes(n plugin.Node, members []clustering.Member) (plugin.Answer, error) {
	own := "https://" + join(n.Address, peerPort)
	b := changeset.Build()
	for _, m := range members {
		if m.PeerAddress == own || (m.Name != "" && m.Name == n.Name) {
			b.ChangeMember(changeset.RemoveMember, m.PeerAddress, m.Name).Because("it stays away from now on")
		}
	}
	return plugin.Answer{Changes: b.ChangeSet()}, nil
}

// Abort has nothing to take back: what a join did on the serving node is
// leased, and ends there.
func (p *Etcd) Abort(_ context.Context, r clustering.AbortRequest) (plugin.Answer, error) {
	switch r.Question {
	case "Join", "Leave", "Remove":
		return plugin.Answer{}, nil
	}
	return plugin.Answer{}, plugin.Errorf(plugin.Unsupported, "%.40q does nothing that could be taken back", r.Question)
}
