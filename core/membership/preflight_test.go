package membership

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

// freePort is one on which nobody listens just now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // only its number is wanted
	return l.Addr().(*net.TCPAddr).Port
}

func TestAPortCountsOnlyWithTheNonce(t *testing.T) {
	t.Parallel()
	good, closed := freePort(t), freePort(t)
	c := peer.Check{Ports: []int{good}, Nonce: []byte("0123456789abcdef")}
	e, err := listen(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	stranger, err := listen(t.Context(), peer.Check{Ports: []int{freePort(t)}, Nonce: []byte("fedcba9876543210")})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.close()
	other := stranger.listeners[0].Addr().(*net.TCPAddr).Port
	c.Ports = []int{good, closed, other}
	got := dialBack(t.Context(), netip.MustParseAddr("127.0.0.1"), c)
	if want := []peer.Closed{{Port: closed, Why: "refused"}, {Port: other, Why: "somebody else answers"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := dialBack(t.Context(), netip.MustParseAddr("::1"), peer.Check{Ports: []int{good}, Nonce: c.Nonce}); len(got) > 0 {
		t.Errorf("over IPv6: %v", got)
	}
}

func TestDatagramsTellHowLargeTheyMayBe(t *testing.T) {
	t.Parallel()
	port, to := freePort(t), netip.MustParseAddr("127.0.0.1")
	e, err := listen(t.Context(), peer.Check{UDP: []int{port}, Nonce: []byte("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	at := netip.AddrPortFrom(to, uint16(port))
	sendBack(t.Context(), at, []byte("another's nonce!"), 1500)
	sendBack(t.Context(), at, e.nonce, 0) // as over a link that takes none
	if small, large := e.wait(t.Context(), port, payload(to, 1500)); !small || large {
		t.Errorf("small %v, large %v", small, large)
	}
	sendBack(t.Context(), at, e.nonce, 1500)
	if small, large := e.wait(t.Context(), port, payload(to, 1500)); !small || !large {
		t.Errorf("small %v, large %v", small, large)
	}
}

// An address that swallows what is sent to it: the dial ends with its time.
func TestWhyAPortIsClosed(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"no answer in 3 s": &net.OpError{Err: context.DeadlineExceeded}, "not reached": errors.New("x"),
	} {
		if got := whyClosed(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

func TestRowsOfAPreflight(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 3, 12, 0, 0, time.UTC)
	own := operation.KubernetesVersion
	port := freePort(t)
	for name, c := range map[string]struct {
		role    node.Role
		checked peer.Checked
		row     string
		verdict Verdict
		reason  plugin.Reason
	}{
		"an hour ahead":            {node.Worker, peer.Checked{Now: now.Add(-time.Hour)}, "clocks", Bad, ClockSkew},
		"an hour behind":           {node.Worker, peer.Checked{Now: now.Add(time.Hour)}, "clocks", Bad, ClockSkew},
		"a slow answer":            {node.Worker, peer.Checked{Now: now.Add(-3 * time.Minute)}, "clocks", Good, ""},
		"the same version":         {node.ControlPlane, peer.Checked{Versions: map[string]string{"kubernetes": own}}, "versions", Good, ""},
		"an older cluster":         {node.Worker, peer.Checked{Versions: map[string]string{"kubernetes": "v1.35.9"}}, "versions", Bad, plugin.NotPossible},
		"a newer one, as a worker": {node.Worker, peer.Checked{Versions: map[string]string{"kubernetes": "v1.39.0"}}, "versions", Good, ""},
		"a newer one":              {node.ControlPlane, peer.Checked{Versions: map[string]string{"kubernetes": "v1.38.0"}}, "versions", Bad, plugin.NotPossible},
		"no version":               {node.Worker, peer.Checked{Versions: map[string]string{"kubernetes": "x"}}, "versions", Unknown, ""},
		"translated on the way":    {node.Worker, peer.Checked{Caller: "192.0.2.7"}, "ports here", Unknown, ""},
		"closed here":              {node.Worker, peer.Checked{Caller: "10.0.0.9", Closed: []peer.Closed{{Port: 10250, Why: "no route"}}}, "ports here", Bad, NotReached},
		"closed beside the server": {node.Worker, peer.Checked{Node: "a", Open: []peer.Listener{{Node: "b", Address: "127.0.0.1", Ports: []int{port}}}},
			"ports of others", Poor, ""},
		"closed there": {node.Worker, peer.Checked{Node: "a", Open: []peer.Listener{{Node: "a", Address: "127.0.0.1", Ports: []int{port}}}},
			"ports there", Bad, NotReached},
	} {
		l := &look{Report: &Report{}, role: c.role}
		l.clock(now, &c.checked, 2*time.Minute)
		if c.row != "clocks" {
			l.Report = &Report{}
		}
		if c.row == "versions" {
			l.versions(&c.checked)
		}
		if strings.HasPrefix(c.row, "ports") {
			l.ports(t.Context(), peer.Check{Name: "d", Address: "10.0.0.9", Ports: []int{25000, 10250}}, &c.checked)
		}
		i := slices.IndexFunc(l.Rows, func(r Row) bool { return r.Check == c.row })
		if i < 0 || l.Rows[i].Verdict != c.verdict {
			t.Errorf("%s: %+v", name, l.Rows)
		}
		if (l.first != nil) != (c.reason != "") || c.reason != "" && !errors.Is(l.first, c.reason) {
			t.Errorf("%s: %v, want %q", name, l.first, c.reason)
		}
	}
}

func TestSkewIsSaidAsPeopleSayIt(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for d, want := range map[time.Duration]string{47 * time.Minute: "47 minutes", -5 * time.Hour: "5 hours", 70 * 24 * time.Hour: "70 days"} {
		if got := (&SkewError{Here: now, There: now.Add(d)}).Apart(); got != want {
			t.Errorf("%s: %q", d, got)
		}
	}
}
