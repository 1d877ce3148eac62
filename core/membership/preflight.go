package membership

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/netinfo"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

// Verdict is what was found of one thing.
type Verdict string

// Verdicts.
const (
	Good    Verdict = "ok"
	Bad     Verdict = "failed"    // the join would fail, or its node
	Poor    Verdict = "warning"   // it would work, but not well
	Unknown Verdict = "not known" // it could not be looked at
)

// Row is one line of a preflight.
type Row struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`
}

// Report is what a preflight found.
type Report struct {
	Server string `json:"server"`
	Rows   []Row  `json:"checks"`
	// Resumed says that a join is under way here: it goes on, and nothing is
	// looked at again.
	Resumed bool `json:"resumed,omitempty"`

	first error
}

// slow is the round trip above which a datastore suffers.
const slow = 50 * time.Millisecond

func (r *Report) add(check string, v Verdict, found string) {
	r.Rows = append(r.Rows, Row{Check: check, Verdict: v, Found: found})
}

// fail notes what is in the way, and keeps the first of it.
func (r *Report) fail(check string, err error) {
	r.add(check, Bad, err.Error())
	if r.first == nil {
		r.first = err
	}
}

// Preflight looks at this machine, at the cluster, and at the way between
// them, both ways. It writes nothing; on the server it holds the token while
// it looks. The report has all that was found; the error is the first of what
// would make the join fail.
func Preflight(ctx context.Context, options operation.Options, o JoinOptions) (*Report, error) {
	r := &Report{Server: o.Server}
	for _, begun := range []string{joinBefore, joinBack} {
		if _, err := os.Stat(filepath.Join(options.Root, begun)); err == nil {
			r.Resumed = true
			return r, nil
		}
	}
	if err := member(options.Root); err != nil {
		r.fail("member of a cluster", err)
		return r, err
	}
	r.add("member of a cluster", Good, "of none yet")
	role := node.ControlPlane
	if o.Worker {
		role = node.Worker
	}
	for _, c := range operation.Checks(ctx, options, operation.StartOptions{Name: o.Name, Address: o.Address}, role) {
		if c.Err != nil {
			r.fail(c.Name, c.Err)
		} else if c.Name != "options" && c.Name != "clock" {
			r.add(c.Name, Good, "")
		}
	}
	if r.first != nil {
		return r, r.first // ports are not free to be tried, or it is of no use
	}
	l := &look{Report: r, options: options, o: o, role: role}
	if err := l.ask(ctx); err != nil {
		r.fail("server", err)
	}
	return r, r.first
}

// member refuses a machine whose node has a cluster.
func member(root string) error {
	data, err := os.ReadFile(filepath.Join(root, "node.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the node: %w", err)
	}
	var record struct {
		ClusterID string `json:"clusterID"`
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(root, "node.json"), err)
	}
	if record.ClusterID != "" {
		return errMember()
	}
	return nil
}

// look is a preflight that has got as far as the server.
type look struct {
	*Report
	options operation.Options
	o       JoinOptions
	role    node.Role
}

// ask has the server look back, and says what both found.
func (l *look) ask(ctx context.Context) error {
	client, err := l.connect()
	if err != nil {
		return err
	}
	defer client.Close()
	c, err := l.request(ctx)
	if err != nil {
		return err
	}
	return l.compare(ctx, client, c)
}

func (l *look) compare(ctx context.Context, client *peer.Client, c peer.Check) error {
	trip, err := roundTrip(ctx, client)
	if err != nil {
		return err
	}
	ears, err := listen(ctx, c)
	if err != nil {
		return err
	}
	defer ears.close()
	sent := l.options.Now()
	checked := &peer.Checked{}
	if err := client.Call(ctx, peer.CheckPath, c, checked); err != nil {
		return err
	}
	l.add("server", Good, checked.Node+", its key is that of the connection string")
	l.clock(l.options.Now(), checked, l.options.Now().Sub(sent))
	l.versions(checked)
	l.trip(trip)
	for _, p := range checked.Refused {
		l.fail("admission", &plugin.Error{Reason: p.Reason, Message: p.Message, Next: p.Next})
	}
	if len(checked.Refused) == 0 {
		l.add("admission", Good, "the token is good, the name "+c.Name+" is free")
	}
	l.ports(ctx, c, checked)
	l.datagrams(ctx, ears, checked)
	return nil
}

// connect prepares the way to the server, with a key for this preflight only;
// or with that of a join that was taken back without the server: the token may
// still be held for it.
func (l *look) connect() (*peer.Client, error) {
	pair, err := l.pair()
	if err != nil {
		return nil, err
	}
	return peer.New(l.o.Server, peer.Options{Fingerprint: l.o.Fingerprint, Insecure: l.o.SkipVerify, Client: pair}), nil
}

func (l *look) pair() (*tls.Certificate, error) {
	kept, err := tls.LoadX509KeyPair(filepath.Join(l.options.Root, joinCert), filepath.Join(l.options.Root, joinKey))
	if err == nil {
		return &kept, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read this node's key for the join: %w", err)
	}
	key, keyPEM, err := pki.NewKey(pki.ECDSAP256)
	if err != nil {
		return nil, err
	}
	cert, err := pki.SelfSigned(key, "mk preflight", l.options.Now())
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("make a key for the preflight: %w", err)
	}
	return &pair, nil
}

// roundTrip is the quickest of three.
func roundTrip(ctx context.Context, c *peer.Client) (time.Duration, error) {
	best := time.Duration(0)
	for i := range 4 { // the first one makes the connection
		began := time.Now()
		a, err := c.Raw(ctx, peer.Request{Method: http.MethodGet, Path: "/health", Max: 64 << 10})
		if err != nil {
			return 0, err
		}
		if a.Status != http.StatusOK {
			return 0, fmt.Errorf("the agent answers %d where it should say how it is", a.Status)
		}
		if took := time.Since(began); i > 0 && (best == 0 || took < best) {
			best = took
		}
	}
	return best, nil
}

func (l *look) request(ctx context.Context) (peer.Check, error) {
	c := peer.Check{
		Operation: node.NewID(), Token: l.o.Token, Name: l.o.Name, Role: string(l.role), Address: l.o.Address,
		AgentPort: operation.AgentPort(l.options.Root), Labels: l.o.Labels, Taints: l.o.Taints, Nonce: make([]byte, peer.NonceSize),
		Versions: map[string]string{"mk": l.options.Version, "kubernetes": operation.KubernetesVersion},
	}
	rand.Read(c.Nonce) //nolint:errcheck // never fails, says its documentation
	if c.Name == "" {
		c.Name = operation.HostNodeName()
	}
	if c.Address == "" {
		a, _, err := netinfo.Default(ctx)
		if err != nil {
			return c, err
		}
		c.Address = a.String()
	}
	all, err := netinfo.Addresses(ctx)
	if err != nil {
		return c, err
	}
	for _, a := range all {
		if s := a.String(); s != c.Address {
			c.Addresses = append(c.Addresses, s)
		}
	}
	for _, p := range defaults.Ports(l.role, node.DefaultNetwork(), c.AgentPort) {
		if p.Protocol == "tcp" && p.From != defaults.FromLoopback && !(l.o.NoVote && p.From == defaults.FromControlPlane) {
			c.Ports = append(c.Ports, p.Number)
		}
	}
	c.UDP = []int{defaults.PodPorts("vxlan")[0], defaults.PodPorts("wireguard")[0]}
	return c, nil
}

// clock compares the clocks. The answer was sent within the time that the
// question took.
func (l *look) clock(now time.Time, c *peer.Checked, took time.Duration) {
	skew := now.Sub(c.Now)
	if skew > 0 {
		skew = max(0, skew-took)
	}
	if skew.Abs() <= maxSkew {
		l.add("clocks", Good, fmt.Sprintf("%s apart", skew.Abs().Round(time.Millisecond)))
		return
	}
	l.fail("clocks", &SkewError{Node: c.Node, Here: now.UTC(), There: c.Now.UTC()})
}

// versions compares what Kubernetes allows: a kubelet up to three minor
// versions older than its API server and never newer, a control plane one.
func (l *look) versions(c *peer.Checked) {
	mine, theirs := operation.KubernetesVersion, c.Versions["kubernetes"]
	found := fmt.Sprintf("mk %s here, %s there; Kubernetes %s and %s", l.options.Version, c.Versions["mk"], mine, theirs)
	behind := 1
	if l.role == node.Worker {
		behind = 3
	}
	here, err := minor(mine)
	there, err2 := minor(theirs)
	switch {
	case errors.Join(err, err2) != nil:
		l.add("versions", Unknown, found)
	case here > there || there-here > behind:
		l.fail("versions", &plugin.Error{Reason: plugin.NotPossible, Message: fmt.Sprintf("Kubernetes %s does not go with the cluster's %s", mine, theirs),
			Next: "install the mk that the cluster runs: " + c.Versions["mk"]})
	default:
		l.add("versions", Good, found)
	}
}

// minor is the second number of a version.
func minor(version string) (int, error) {
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return 0, fmt.Errorf("%q is no version", version)
	}
	return strconv.Atoi(parts[1])
}

func (l *look) trip(took time.Duration) {
	if took > slow && l.role == node.ControlPlane {
		l.add("round trip", Poor, fmt.Sprintf("%s: a datastore should have less than %s", took.Round(time.Millisecond/10), slow))
		return
	}
	l.add("round trip", Good, took.Round(time.Microsecond).String())
}

// ports are tried from here to every control-plane node; the other way the
// server has tried them.
func (l *look) ports(ctx context.Context, c peer.Check, checked *peer.Checked) {
	var open []string
	var closed []ClosedPort
	var group sync.WaitGroup
	var mu sync.Mutex
	for _, o := range checked.Open[:min(len(checked.Open), maxListeners)] {
		for _, port := range o.Ports {
			group.Go(func() {
				why := dial(ctx, net.JoinHostPort(o.Address, strconv.Itoa(port)))
				mu.Lock()
				defer mu.Unlock()
				if why != "" {
					closed = append(closed, ClosedPort{From: c.Name, To: o.Node, Address: o.Address, Port: port, Why: why})
					return
				}
				open = append(open, strconv.Itoa(port))
			})
		}
	}
	group.Wait()
	slices.Sort(open)
	slices.SortFunc(closed, func(a, b ClosedPort) int { return a.Port - b.Port })
	// What a node beside the server serves to clients is not needed for the join,
	// and may just be starting; its member of the datastore is.
	var beside []string
	closed = slices.DeleteFunc(closed, func(p ClosedPort) bool {
		spare := p.To != checked.Node && !slices.Contains(defaults.DatastorePorts(), p.Port)
		if spare {
			beside = append(beside, fmt.Sprintf("%d of %s: %s", p.Port, p.To, p.Why))
		}
		return spare
	})
	if len(beside) > 0 {
		l.add("ports of others", Poor, strings.Join(beside, ", "))
	}
	if len(closed) > 0 {
		l.fail("ports there", &PortsError{Server: checked.Node, Joiner: c.Name, Closed: closed, Open: slices.Compact(open)})
	} else {
		l.add("ports there", Good, "open: "+strings.Join(slices.Compact(open), ", "))
	}
	if !slices.Contains(append([]string{c.Address}, c.Addresses...), checked.Caller) {
		l.add("ports here", Unknown, checked.Node+" sees this node as "+checked.Caller+", which is none of its addresses: addresses are translated on the way")
		return
	}
	back, reached := []ClosedPort(nil), []string(nil)
	for _, p := range c.Ports {
		i := slices.IndexFunc(checked.Closed, func(x peer.Closed) bool { return x.Port == p })
		if i < 0 {
			reached = append(reached, strconv.Itoa(p))
			continue
		}
		back = append(back, ClosedPort{From: checked.Node, To: c.Name, Address: checked.Caller, Port: p, Why: checked.Closed[i].Why})
	}
	if len(back) > 0 {
		l.fail("ports here", &PortsError{Server: checked.Node, Joiner: c.Name, Back: true, Closed: back, Open: reached})
		return
	}
	l.add("ports here", Good, "reached by "+checked.Node+": "+strings.Join(reached, ", "))
}

// maxListeners is how many nodes of the control plane are tried.
const maxListeners = 9

// dial is empty where somebody answers.
func dial(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return whyClosed(err)
	}
	_ = c.Close() // nothing was said
	return ""
}

// datagrams says whether those of the pod network arrive, also large ones.
func (l *look) datagrams(ctx context.Context, e *ears, checked *peer.Checked) {
	here := 0
	if a, err := netip.ParseAddr(checked.Caller); err == nil {
		here = linkMTU(a)
	}
	links := fmt.Sprintf("%d here, %d there", here, checked.MTU)
	for _, port := range checked.UDP {
		to, err := netip.ParseAddr(checked.Caller)
		full := 0
		if err == nil {
			full = payload(to, checked.MTU)
		}
		small, large := e.wait(ctx, port, full)
		name := fmt.Sprintf("port %d/udp here", port)
		switch {
		case !e.hears(port):
			l.add(name, Unknown, "somebody else has it")
		case !small:
			l.add(name, Poor, "no datagram of "+checked.Node+" arrives: pods would not reach each other (a firewall?)")
		default:
			l.add(name, Good, "reached by "+checked.Node)
		}
		if small && !large {
			l.add("MTU", Poor, links+"; a datagram that fills the link does not arrive: large packets of pods would be lost")
			return
		}
	}
	if here != checked.MTU && here != 0 && checked.MTU != 0 {
		l.add("MTU", Poor, links+": they differ")
		return
	}
	l.add("MTU", Good, links)
}
