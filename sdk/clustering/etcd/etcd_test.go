package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
	"mk8s.io/mk/sdk/tokens"
)

func noHost() (host.Host, error) { return nil, sdk.ErrNoHost }

func TestDescription(t *testing.T) {
	t.Parallel()
	d, err := New("1.2.3", noHost).Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	sdktest.GoldenText(t, "description", string(b)+"\n")
}

func ask(t *testing.T, n plugin.Node) (plugin.Answer, error) {
	t.Helper()
	return New("1.0.0", noHost).Init(t.Context(), clustering.InitRequest{Call: sdktest.Call(), Node: n})
}

func TestInit(t *testing.T) {
	t.Parallel()
	six := sdktest.Node()
	six.Address = "fd00::1"
	for name, n := range map[string]plugin.Node{"init": sdktest.Node(), "init-ipv6": six} {
		first, err := ask(t, n)
		if err != nil || !first.Next.IsZero() || first.NotYet != nil {
			t.Fatal(first, err)
		}
		sdktest.Golden(t, name, first.Changes)
		// Asked again, once with what it wrote before.
		for _, op := range first.Changes.Operations {
			if w, ok := op.Action.(*changeset.WriteFile); ok {
				n.Files = map[string][]byte{w.Path: w.Content}
			}
		}
		again, err := ask(t, n)
		if err != nil {
			t.Fatal(err)
		}
		sdktest.Golden(t, name, again.Changes)
	}
}

func TestInitRefuses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*plugin.Node){
		"no address":   func(n *plugin.Node) { n.Address = "" },
		"a host name":  func(n *plugin.Node) { n.Address = "node-1" },
		"any address":  func(n *plugin.Node) { n.Address = "::" },
		"a zone":       func(n *plugin.Node) { n.Address = "fe80::1%eth0" },
		"no name":      func(n *plugin.Node) { n.Name = "" },
		"two names":    func(n *plugin.Node) { n.Name = "a=https://x,b" },
		"no cluster":   func(n *plugin.Node) { n.Cluster.ID = "" },
		"an URL, even": func(n *plugin.Node) { n.Address = "https://10.0.0.1" },
	} {
		n := sdktest.Node()
		spoil(&n)
		if a, err := ask(t, n); !errors.Is(err, plugin.BadArgument) {
			t.Errorf("%s: %v %v", name, a, err)
		}
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	m, err := New("1.0.0", noHost).Members(t.Context(), sdktest.Node())
	want := clustering.Member{Name: "node-1", PeerAddress: "https://10.0.0.1:2380", ClientAddress: "https://10.0.0.1:12379", Role: "voter"}
	if err != nil || len(m) != 1 || m[0] != want {
		t.Fatal(m, err)
	}
}

// fakeHost issues tokens.
type fakeHost struct {
	host.Host
	asked *tokens.IssueRequest
	err   error
}

func (h fakeHost) Issue(_ context.Context, r tokens.IssueRequest) (tokens.Issued, error) {
	*h.asked = r
	return tokens.Issued{Token: strings.Repeat("t", 32), ID: "1", Expires: time.Unix(99, 0)}, h.err
}

func TestInvite(t *testing.T) {
	t.Parallel()
	var asked tokens.IssueRequest
	p := New("1.0.0", func() (host.Host, error) { return fakeHost{asked: &asked}, nil })
	n := sdktest.Node()
	n.Addresses = []string{"127.0.0.1", "10.0.0.1", "fd00::1", "192.168.1.7", "fe80::1"}
	r := clustering.InviteRequest{Call: sdktest.Call(), Node: n, Role: plugin.RoleWorker, Lifetime: time.Hour, Uses: 3, Fingerprint: strings.Repeat("ab", 32)}
	got, err := p.Invite(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	tail := "/" + strings.Repeat("t", 32) + "/" + strings.Repeat("ab", 32)
	want := []string{"10.0.0.1:25000" + tail, "[fd00::1]:25000" + tail, "192.168.1.7:25000" + tail}
	if fmt.Sprint(got.ConnectionStrings) != fmt.Sprint(want) || got.Expires.Unix() != 99 {
		t.Errorf("%+v", got)
	}
	if asked.Purpose != tokens.Join || asked.Role != plugin.RoleWorker || asked.Uses != 3 || asked.Lifetime != time.Hour || asked.Call.OperationID != r.Call.OperationID {
		t.Errorf("%+v", asked)
	}
	for name, c := range map[string]struct {
		spoil func(*clustering.InviteRequest)
		want  plugin.Reason
	}{
		"worker":         {func(r *clustering.InviteRequest) { r.Node.Role = plugin.RoleWorker }, plugin.NotPossible},
		"loopback":       {func(r *clustering.InviteRequest) { r.Node.Address, r.Node.Addresses = "127.0.0.1", nil }, plugin.NotPossible},
		"no fingerprint": {func(r *clustering.InviteRequest) { r.Fingerprint = "abcdef123456" }, plugin.BadArgument},
		"no port":        {func(r *clustering.InviteRequest) { r.Node.Cluster.AgentPort = 0 }, plugin.BadArgument},
	} {
		bad := r
		c.spoil(&bad)
		if _, err := p.Invite(t.Context(), bad); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New("1.0.0", noHost).Invite(t.Context(), r); !errors.Is(err, sdk.ErrNoHost) {
		t.Errorf("without a host: %v", err)
	}
	failing := New("1.0.0", func() (host.Host, error) {
		return fakeHost{asked: &asked, err: plugin.Errorf(plugin.BadArgument, "too short")}, nil
	})
	if _, err := failing.Invite(t.Context(), r); !errors.Is(err, plugin.BadArgument) {
		t.Errorf("the reason is lost: %v", err)
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	good := clustering.AdmitRequest{Node: sdktest.Node(), Joiner: plugin.Node{Name: "w1", Role: plugin.RoleWorker, Address: "10.0.0.9",
		Versions: map[string]string{"kubernetes": "v1.36.0"}}, Reservation: clustering.Reservation{Role: plugin.RoleWorker}}
	for name, c := range map[string]struct {
		change func(*clustering.AdmitRequest)
		want   plugin.Reason // empty means admitted
	}{
		"a worker":            {func(*clustering.AdmitRequest) {}, ""},
		"any role":            {func(r *clustering.AdmitRequest) { r.Reservation.Role = "" }, ""},
		"less than its token": {func(r *clustering.AdmitRequest) { r.Reservation.Role = plugin.RoleControlPlane }, ""},
		"its name":            {func(r *clustering.AdmitRequest) { r.Reservation.BoundNames = []string{"w0", "w1"} }, ""},
		"another's name":      {func(r *clustering.AdmitRequest) { r.Reservation.BoundNames = []string{"w0"} }, plugin.NotPossible},
		"taken name":          {func(r *clustering.AdmitRequest) { r.Joiner.Name = r.Node.Name }, plugin.NotPossible},
		"no name":             {func(r *clustering.AdmitRequest) { r.Joiner.Name = "" }, plugin.BadArgument},
		"taken address":       {func(r *clustering.AdmitRequest) { r.Joiner.Address = r.Node.Address }, plugin.NotPossible},
		"loopback":            {func(r *clustering.AdmitRequest) { r.Joiner.Address = "127.0.0.1" }, plugin.BadArgument},
		"no role":             {func(r *clustering.AdmitRequest) { r.Joiner.Role = "" }, plugin.BadArgument},
		"more than its token": {func(r *clustering.AdmitRequest) { r.Joiner.Role = plugin.RoleControlPlane }, plugin.NotPossible},
		"a control plane": {func(r *clustering.AdmitRequest) {
			r.Joiner.Role, r.Reservation.Role = plugin.RoleControlPlane, ""
		}, ""},
		"a control plane of another version": {func(r *clustering.AdmitRequest) {
			r.Joiner.Role, r.Reservation.Role = plugin.RoleControlPlane, plugin.RoleControlPlane
			r.Joiner.Versions = map[string]string{"kubernetes": "v1.34.9"}
		}, plugin.NotPossible},
		"newer":    {func(r *clustering.AdmitRequest) { r.Joiner.Versions = map[string]string{"kubernetes": "1.37.0"} }, plugin.NotPossible},
		"older":    {func(r *clustering.AdmitRequest) { r.Joiner.Versions = map[string]string{"kubernetes": "1.33.9"} }, ""},
		"too old":  {func(r *clustering.AdmitRequest) { r.Joiner.Versions = map[string]string{"kubernetes": "v1.32.9"} }, plugin.NotPossible},
		"who says": {func(r *clustering.AdmitRequest) { r.Joiner.Versions = nil }, ""},
	} {
		r := good
		c.change(&r)
		v, err := New("1.0.0", noHost).Admit(t.Context(), r)
		switch {
		case err != nil || v.NotYet != nil || (v.Admitted == nil) == (v.Denied == nil):
			t.Errorf("%s: %+v %v", name, v, err)
		case c.want == "" && v.Denied != nil, c.want != "" && (v.Denied == nil || v.Denied.Reason != c.want || v.Denied.Message == ""):
			t.Errorf("%s: %+v", name, v.Denied)
		}
	}
}

func FuzzSkew(f *testing.F) {
	f.Add("v1.36.0", "1.34")
	f.Fuzz(func(t *testing.T, server, worker string) {
		if skew(server, server) != "" {
			t.Fatalf("%q cannot join itself", server)
		}
		_ = skew(server, worker)
	})
}
