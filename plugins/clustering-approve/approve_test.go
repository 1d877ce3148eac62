package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/clustering/etcd"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

func noHost() (host.Host, error) { return nil, sdk.ErrNoHost }

func TestConformance(t *testing.T) {
	t.Parallel()
	sdktest.Conformance(t, func() plugin.Plugin { return New("1.0.0", time.Now, noHost) }, sdktest.Build(t, "."), nil)
}

func TestDescription(t *testing.T) {
	t.Parallel()
	d, err := New("1.2.3", time.Now, noHost).Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	sdktest.GoldenText(t, "description", string(b)+"\n")
}

// TestTheDatastoreIsEtcds: a strategy that decides differently about joins
// makes the same datastore.
func TestTheDatastoreIsEtcds(t *testing.T) {
	t.Parallel()
	r := clustering.InitRequest{Call: sdktest.Call(), Node: sdktest.Node()}
	ours, err := New("1.0.0", time.Now, noHost).Init(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := etcd.New("1.0.0", noHost).Init(t.Context(), r)
	if err != nil || fmt.Sprint(ours) != fmt.Sprint(theirs) || len(ours.Changes.Operations) == 0 {
		t.Fatalf("%v\nis not\n%v (%v)", ours, theirs, err)
	}
}

// desk is a plugin with a clock of its own.
type desk struct {
	*Approve

	t   *testing.T
	dir string

	mu  sync.Mutex
	now time.Time
}

func newDesk(t *testing.T, settings string) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	d.Approve = d.process(settings)
	return d
}

// process is another process of the same plugin.
func (d *desk) process(settings string) *Approve {
	d.t.Helper()
	p := New("1.0.0", func() time.Time {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.now
	}, noHost)
	if err := p.Configure(d.t.Context(), plugin.Configuration{StateDir: d.dir, Settings: []byte(settings)}); err != nil {
		d.t.Fatal(err)
	}
	return p
}

func (d *desk) pass(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

func asking(operation, name, address string) clustering.AdmitRequest {
	joiner := sdktest.Node()
	joiner.Name, joiner.Address, joiner.Addresses, joiner.Role = name, address, nil, plugin.RoleWorker
	return clustering.AdmitRequest{Call: plugin.Call{OperationID: operation}, Node: sdktest.Node(), Joiner: joiner}
}

// ask answers yes, wait, or the reason of a refusal.
func (d *desk) ask(r clustering.AdmitRequest) string {
	d.t.Helper()
	v, err := d.Admit(d.t.Context(), r)
	switch {
	case err != nil:
		d.t.Fatal(err)
	case v.Admitted != nil && v.NotYet == nil && v.Denied == nil:
		return "yes"
	case v.NotYet != nil && v.NotYet.RetryAfter > 0 && strings.Contains(v.NotYet.WaitingFor, "mk node approve "+r.Joiner.Name):
		return "wait"
	case v.Denied != nil:
		return string(v.Denied.Reason)
	}
	d.t.Fatalf("verdict %+v", v)
	return ""
}

func (d *desk) want(r clustering.AdmitRequest, want string) {
	d.t.Helper()
	if got := d.ask(r); got != want {
		d.t.Fatalf("%s of %s asks: %s, want %s", r.Joiner.Name, r.Call.OperationID, got, want)
	}
}

func (d *desk) pending() (names string) {
	d.t.Helper()
	all, err := d.Pending(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, j := range all {
		names += j.Name + " "
	}
	return names
}

func decide(t *testing.T, p clustering.Approver, name string, approve bool) error {
	t.Helper()
	return p.Decide(t.Context(), clustering.Decision{Call: sdktest.Call(), Name: name, Approve: approve, Reason: "so"})
}

func TestAJoinWaitsForAPerson(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	first, second := asking("1", "w1", "10.0.0.11"), asking("2", "w2", "10.0.0.12")
	d.want(first, "wait")
	d.pass(time.Second)
	d.want(second, "wait")
	d.want(first, "wait")
	if got := d.pending(); got != "w1 w2 " {
		t.Fatalf("%q wait", got)
	}
	person := d.process("") // mk node approve is another process
	if err := decide(t, person, "w2", true); err != nil {
		t.Fatal(err)
	}
	if err := decide(t, person, "w1", false); err != nil {
		t.Fatal(err)
	}
	d.want(second, "yes")
	d.want(second, "yes")
	d.want(first, string(JoinDenied))
	if got := d.pending(); got != "" {
		t.Fatalf("%q still wait", got)
	}
	if err := decide(t, person, "w2", true); err != nil {
		t.Errorf("the same decision again: %v", err)
	}
	if err := decide(t, person, "w2", false); !errors.Is(err, AlreadyDecided) {
		t.Errorf("another decision: %v", err)
	}
	if err := decide(t, person, "w3", true); !errors.Is(err, NobodyWaits) {
		t.Errorf("a decision about nobody: %v", err)
	}
}

// TestADecisionIsAboutOneJoin: neither another machine nor a later join can
// use it.
func TestADecisionIsAboutOneJoin(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	d.want(asking("1", "w1", "10.0.0.11"), "wait")
	d.want(asking("2", "w1", "10.0.0.66"), string(NameWaits))
	if err := decide(t, d, "w1", true); err != nil {
		t.Fatal(err)
	}
	d.want(asking("2", "w1", "10.0.0.66"), "wait")
	d.want(asking("2", "w1", "10.0.0.66"), "wait")
	d.want(asking("1", "w1", "10.0.0.11"), string(NameWaits))
	// The same machine that gave up and tries anew takes its place.
	d.want(asking("3", "w1", "10.0.0.66"), "wait")
	other := asking("3", "w1", "10.0.0.66")
	if err := decide(t, d, "w1", true); err != nil {
		t.Fatal(err)
	}
	d.want(other, "yes")
	other.Joiner.Address = "10.0.0.67"
	d.want(other, "wait")
}

func TestNobodyWaitsForEver(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `{"timeout":"10m"}`)
	r := asking("1", "w1", "10.0.0.11")
	for range 10 {
		d.want(r, "wait")
		d.pass(time.Minute)
	}
	d.want(r, string(NotApproved))
	// Asked anew, it waits anew; a joiner that went away is no longer listed.
	d.want(r, "wait")
	d.pass(present)
	if got := d.pending(); got != "" {
		t.Fatalf("%q wait, and are gone", got)
	}
	if err := decide(t, d, "w1", true); !errors.Is(err, NobodyWaits) {
		t.Fatalf("a decision about a joiner that is gone: %v", err)
	}
	// An approval does not hold for ever.
	d.want(r, "wait")
	if err := decide(t, d, "w1", true); err != nil {
		t.Fatal(err)
	}
	d.pass(decisionHolds)
	d.want(r, "wait")
}

func TestEtcdsRefusalsNeedNobody(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	d.want(asking("1", "", "10.0.0.11"), string(plugin.BadArgument))
	r := asking("2", "w1", "10.0.0.11")
	r.Reservation.BoundNames = []string{"w9"}
	d.want(r, string(plugin.NotPossible))
	if got := d.pending(); got != "" {
		t.Fatalf("%q wait", got)
	}
}

func TestWhoWaitsIsBounded(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	for i := range mostWaiting {
		d.want(asking(fmt.Sprint(i), fmt.Sprint("w", i), fmt.Sprint("10.0.1.", i)), "wait")
	}
	d.want(asking("x", "wx", "10.0.2.1"), string(TooManyWait))
	d.pass(present)
	d.want(asking("x", "wx", "10.0.2.1"), "wait")
}

func TestForgetForgets(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	r := asking("1", "w1", "10.0.0.11")
	d.want(r, "wait")
	if err := decide(t, d, "w1", true); err != nil {
		t.Fatal(err)
	}
	if err := d.Forget(t.Context(), sdktest.Call()); err != nil {
		t.Fatal(err)
	}
	d.want(r, "wait")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{`{"timeout":"soon"}`, `{"timeout":"1s"}`, `{"timeout":"2000h"}`, `{"timeout":5}`, `{"wait":"1m"}`, `[`} {
		err := New("1.0.0", time.Now, noHost).Configure(t.Context(), plugin.Configuration{StateDir: t.TempDir(), Settings: []byte(bad)})
		if !errors.Is(err, plugin.BadSettings) {
			t.Errorf("settings %s: %v, want %s", bad, err, plugin.BadSettings)
		}
	}
}
