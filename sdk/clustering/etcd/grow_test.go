package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

// peerHost answers a joiner's plugin as the serving node would.
type peerHost struct {
	host.Host
	answer host.PeerResponse
	asked  *[]host.PeerRequest
}

func (h peerHost) Peer(_ context.Context, r host.PeerRequest) (host.PeerResponse, error) {
	*h.asked = append(*h.asked, r)
	return h.answer, nil
}

func joining(t *testing.T, answer host.PeerResponse, step string) (plugin.Answer, []host.PeerRequest, error) {
	t.Helper()
	var asked []host.PeerRequest
	p := New("1.0.0", func() (host.Host, error) { return peerHost{answer: answer, asked: &asked}, nil })
	n := sdktest.Node()
	n.Name, n.Address = "node-2", "10.0.0.2"
	call := sdktest.Call()
	call.Step.Name = step
	a, err := p.Join(t.Context(), clustering.JoinRequest{Call: call, Node: n})
	return a, asked, err
}

func TestJoinStartsALearnerAndThenPromotesIt(t *testing.T) {
	t.Parallel()
	members := `[{"name":"node-1","peer":"https://10.0.0.1:2380"},{"name":"","peer":"https://10.0.0.2:2380"}]`
	a, asked, err := joining(t, host.PeerResponse{Status: 200, Body: []byte(members)}, "")
	if err != nil || a.Next.Name != promoteStep || len(asked) != 1 || asked[0].Path != memberRoute {
		t.Fatal(a, asked, err)
	}
	sdktest.Golden(t, "join", a.Changes)
	a, asked, err = joining(t, host.PeerResponse{Status: 200}, promoteStep)
	if err != nil || !a.Next.IsZero() || len(a.Changes.Operations) != 0 || asked[0].Path != promoteRoute {
		t.Fatal(a, asked, err)
	}
}

func TestJoinWaitsAndSaysWhy(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"", promoteStep} {
		a, _, err := joining(t, host.PeerResponse{Status: 503, Body: []byte("node-3 joins just now")}, step)
		if err != nil || a.NotYet == nil || !strings.Contains(a.NotYet.WaitingFor, "node-3") || len(a.Changes.Operations) != 0 {
			t.Errorf("step %q: %+v %v", step, a, err)
		}
		_, _, err = joining(t, host.PeerResponse{Status: 409, Body: []byte(`{"error":{"reason":"JOIN_ENDED","message":"it has ended"}}`)}, step)
		if !errors.Is(err, plugin.Reason("JOIN_ENDED")) {
			t.Errorf("step %q: the reason is lost: %v", step, err)
		}
	}
	for name, body := range map[string]string{
		"no list": `{}`, "no JSON": `<html>`, "no name": `[{"peer":"https://10.0.0.1:2380"}]`, "two in one": `[{"name":"a=https://x,b","peer":"https://10.0.0.1:2380"}]`,
		"plain http": `[{"name":"a","peer":"http://10.0.0.1:2380"}]`,
	} {
		if a, _, err := joining(t, host.PeerResponse{Status: 200, Body: []byte(body)}, ""); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func serving(t *testing.T, path string, members []clustering.Member, change func(*clustering.ServeRequest)) (clustering.Served, error) {
	t.Helper()
	body, err := json.Marshal(entry{Name: "node-2", Peer: "https://10.0.0.2:2380"})
	if err != nil {
		t.Fatal(err)
	}
	r := clustering.ServeRequest{Call: sdktest.Call(), Node: sdktest.Node(), Method: "POST", Path: path, Body: body, Members: members,
		Reservation: &clustering.Reservation{ID: "1", Role: plugin.RoleControlPlane, BoundNames: []string{"node-2"}}}
	if change != nil {
		change(&r)
	}
	return New("1.0.0", noHost).Serve(t.Context(), r)
}

func TestServe(t *testing.T) {
	t.Parallel()
	one := clustering.Member{Name: "node-1", PeerAddress: "https://10.0.0.1:2380", Role: "voter"}
	two := clustering.Member{Name: "node-2", PeerAddress: "https://10.0.0.2:2380", Role: "learner"}
	voting := two
	voting.Role = "voter"
	other := clustering.Member{Name: "node-3", PeerAddress: "https://10.0.0.3:2380", Role: "learner"}
	for name, c := range map[string]struct {
		path    string
		members []clustering.Member
		action  changeset.MemberAction // empty: nothing changes
		leased  bool
		waits   bool
	}{
		"a new one":             {memberRoute, []clustering.Member{one}, changeset.AddLearner, true, false},
		"asked again":           {memberRoute, []clustering.Member{one, two}, "", true, false},
		"votes already":         {memberRoute, []clustering.Member{one, voting}, "", false, false},
		"another learns":        {memberRoute, []clustering.Member{one, other}, "", false, true},
		"promoted":              {promoteRoute, []clustering.Member{one, two}, changeset.Promote, false, false},
		"promoted, asked again": {promoteRoute, []clustering.Member{one, voting}, "", false, false},
	} {
		s, err := serving(t, c.path, c.members, nil)
		if err != nil || (s.Answer.NotYet != nil) != c.waits {
			t.Errorf("%s: %+v %v", name, s, err)
			continue
		}
		ops := s.Answer.Changes.Operations
		if c.action == "" && len(ops) != 0 || c.action != "" && (len(ops) != 1 || ops[0].Action.(*changeset.ChangeMember).Action != c.action) {
			t.Errorf("%s: %v", name, ops)
		}
		if leased := s.Lease != nil && !s.Lease.Until.IsZero(); leased != c.leased {
			t.Errorf("%s: lease %+v", name, s.Lease)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	peer := func(p string) func(*clustering.ServeRequest) {
		return func(r *clustering.ServeRequest) { r.Body = []byte(`{"name":"node-2","peer":"` + p + `"}`) }
	}
	for name, change := range map[string]func(*clustering.ServeRequest){
		"no reservation": func(r *clustering.ServeRequest) { r.Reservation = nil },
		"a worker":       func(r *clustering.ServeRequest) { r.Reservation.Role = plugin.RoleWorker },
		"another's name": func(r *clustering.ServeRequest) { r.Reservation.BoundNames = []string{"node-9"} },
		"a GET":          func(r *clustering.ServeRequest) { r.Method = "GET" },
		"another route":  func(r *clustering.ServeRequest) { r.Path = "/etcd/remove" },
		"no JSON":        func(r *clustering.ServeRequest) { r.Body = []byte("x") },
		"loopback":       peer("https://127.0.0.1:2380"),
		"another port":   peer("https://10.0.0.2:80"),
		"a name":         peer("https://node-1:2380"),
		"with a path":    peer("https://10.0.0.2:2380/x"),
		"plain":          peer("http://10.0.0.2:2380"),
	} {
		if s, err := serving(t, memberRoute, nil, change); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	// Nobody promotes who is no member: its join was taken back.
	if s, err := serving(t, promoteRoute, nil, nil); !errors.Is(err, plugin.NotPossible) {
		t.Errorf("%+v %v", s, err)
	}
}

func TestLeaveAndRemoveTakeTheMemberOut(t *testing.T) {
	t.Parallel()
	n := sdktest.Node()
	members := []clustering.Member{{Name: n.Name, PeerAddress: "https://10.0.0.1:2380"}, {Name: "node-2", PeerAddress: "https://10.0.0.2:2380"}}
	p := New("1.0.0", noHost)
	left, err := p.Leave(t.Context(), clustering.LeaveRequest{Call: sdktest.Call(), Node: n, Members: members})
	if err != nil || len(left.Changes.Operations) != 1 || left.Changes.Operations[0].Target() != "https://10.0.0.1:2380" {
		t.Errorf("%+v %v", left, err)
	}
	// By name alone: a node whose record is gone.
	removed, err := p.Remove(t.Context(), clustering.RemoveRequest{Call: sdktest.Call(), Node: n, Target: plugin.Node{Name: "node-2"}, Members: members})
	if err != nil || len(removed.Changes.Operations) != 1 || removed.Changes.Operations[0].Target() != "https://10.0.0.2:2380" {
		t.Errorf("%+v %v", removed, err)
	}
	again, err := p.Remove(t.Context(), clustering.RemoveRequest{Call: sdktest.Call(), Node: n, Target: plugin.Node{Name: "node-9"}, Members: members})
	if err != nil || len(again.Changes.Operations) != 0 {
		t.Errorf("%+v %v", again, err)
	}
}
