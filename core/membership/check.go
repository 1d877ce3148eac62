package membership

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

const (
	// dialLimit is how long a port may take to answer in a preflight.
	dialLimit = 3 * time.Second
	// checkLease is how long a token is held for a preflight: whoever dies in
	// it keeps nobody from joining for long.
	checkLease = 30 * time.Second
	// datagrams is how often a datagram is sent: one may get lost.
	datagrams = 3
)

// CheckJoin looks at a joiner before it begins: whether it would be refused,
// and whether this node reaches it. Only who holds a good token is looked at,
// and only at the address that it calls from; what does not answer with the
// caller's own nonce counts as closed, whatever listens there.
func (n Node) CheckJoin(ctx context.Context, who Caller, c peer.Check) (*peer.Checked, error) {
	if n.Record.Role != node.ControlPlane {
		return nil, isWorker(n.Record.Name)
	}
	if who.Key == "" {
		return nil, plugin.Errorf(NotAllowed, "a joiner shows its key in the TLS handshake")
	}
	if len(c.Ports) > peer.MaxCheckedPorts || len(c.UDP) > peer.MaxCheckedUDP || len(c.Nonce) != peer.NonceSize || !node.ValidID(c.Operation) {
		return nil, plugin.Errorf(plugin.BadArgument, "the request for a preflight is not whole")
	}
	t, _, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	held, err := t.Reserve(ctx, tokens.ReserveRequest{
		Call: plugin.Call{OperationID: c.Operation + "/reserve"}, Token: c.Token, Purpose: tokens.Join, Lease: checkLease,
		Claimant: tokens.Claimant{KeyFingerprint: who.Key, Name: c.Name, Address: c.Address},
	})
	if err != nil {
		return nil, n.tokenProblem(ctx, err, c.Token)
	}
	// The token is good: what its join asks next starts while the ways are tried.
	n.Prefetch(ctx, plugin.KindClustering, plugin.KindCerts)
	checked, err := n.check(ctx, who, c, held)
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return checked, errors.Join(err, t.Release(release, plugin.Call{OperationID: c.Operation + "/release"}, held.ID))
}

func (n Node) check(ctx context.Context, who Caller, c peer.Check, held tokens.Reservation) (*peer.Checked, error) {
	store, all, err := n.records(ctx)
	if err != nil {
		return nil, err
	}
	out := &peer.Checked{
		Node: n.Record.Name, Versions: n.versions(), Caller: who.Address.String(), MTU: linkMTU(who.Local), Open: n.listeners(all, c.Role),
	}
	b := peer.Begin{Name: c.Name, Role: c.Role, Address: c.Address, Addresses: c.Addresses, AgentPort: c.AgentPort, Operation: c.Operation,
		Now: n.Now(), Labels: c.Labels, Taints: c.Taints}
	own, others, taken := place(all, who, b, n.Now())
	if taken == nil && own == nil {
		taken = n.nameFree(ctx, store, c.Name)
	}
	_, addresses := ownAddresses(b, n.Record.Network.PodCIDR, n.Record.Network.ServiceCIDR, others)
	for _, err := range []error{within(b, held), n.checkBegin(who, b), taken, addresses} {
		e, ok := errors.AsType[*plugin.Error](err)
		if err != nil && !ok {
			return nil, err
		}
		if ok {
			out.Refused = append(out.Refused, peer.ProblemText{Reason: e.Reason, Message: e.Message, Next: e.Next})
		}
	}
	out.UDP = slices.DeleteFunc(defaults.PodPorts(n.Record.Network.CNI), func(p int) bool { return !slices.Contains(c.UDP, p) })
	out.Closed = dialBack(ctx, who.Address, c)
	for _, p := range out.UDP {
		sendBack(ctx, netip.AddrPortFrom(who.Address, uint16(p)), c.Nonce, out.MTU) //nolint:gosec // one of PodPorts
	}
	out.Now = n.Now().UTC()
	return out, nil
}

func (n Node) versions() map[string]string {
	return map[string]string{"mk": n.Version, "kubernetes": operation.KubernetesVersion}
}

// listeners are where a joiner of a role must reach the control plane.
func (n Node) listeners(all []*cluster.Member, role string) []peer.Listener {
	var out []peer.Listener
	for _, m := range all {
		if m.State != cluster.Joined || m.Role != plugin.RoleControlPlane {
			continue
		}
		l := peer.Listener{Node: m.Name, Address: m.Address}
		for _, p := range defaults.Ports(node.ControlPlane, n.Record.Network, m.AgentPort) {
			if p.Protocol == "tcp" && (p.From == defaults.FromClients || p.From == defaults.FromJoiners ||
				role == plugin.RoleControlPlane && p.From != defaults.FromLoopback) {
				l.Ports = append(l.Ports, p.Number)
			}
		}
		out = append(out, l)
	}
	return out
}

// dialBack connects to ports of a caller, and says which did not answer with
// its nonce.
func dialBack(ctx context.Context, to netip.Addr, c peer.Check) []peer.Closed {
	found := make([]string, len(c.Ports))
	var group sync.WaitGroup
	for i, port := range c.Ports {
		group.Go(func() { found[i] = answers(ctx, net.JoinHostPort(to.String(), strconv.Itoa(port)), c.Nonce) })
	}
	group.Wait()
	var out []peer.Closed
	for i, why := range found {
		if why != "" {
			out = append(out, peer.Closed{Port: c.Ports[i], Why: why})
		}
	}
	return out
}

// answers is empty where the nonce is answered; else it says how it went.
func answers(ctx context.Context, address string, nonce []byte) string {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return whyClosed(err)
	}
	defer c.Close() //nolint:errcheck // nothing was written
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetReadDeadline(deadline) // a connection takes one
	}
	got := make([]byte, peer.NonceSize)
	if _, err := io.ReadFull(c, got); err != nil || subtle.ConstantTimeCompare(got, nonce) != 1 {
		return "somebody else answers"
	}
	return ""
}

// whyClosed says why nobody was reached, in a word.
func whyClosed(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route"
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer in %d s", int(dialLimit.Seconds()))
	}
	return "not reached"
}

// sendBack sends the nonce to a caller's UDP port: alone, and in a datagram
// that fills the link and must not be cut. Who gets neither, or only the small
// one, knows what that means; what cannot be sent does not arrive.
func sendBack(ctx context.Context, to netip.AddrPort, nonce []byte, mtu int) {
	d := net.Dialer{Control: func(network, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) {
			if network == "udp6" {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
				return
			}
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		})
		return errors.Join(err, set)
	}}
	c, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return
	}
	defer c.Close() //nolint:errcheck // datagrams
	sizes := []int{len(nonce)}
	if full := payload(to.Addr(), mtu); full > len(nonce) {
		sizes = append(sizes, full)
	}
	for range datagrams {
		for _, size := range sizes {
			data := make([]byte, size)
			copy(data, nonce)
			_, _ = c.Write(data) // what is not sent does not arrive
		}
	}
}

// payload is what a UDP datagram holds that fills a link.
func payload(to netip.Addr, mtu int) int {
	if to.Is6() {
		return mtu - 48
	}
	return mtu - 28
}

// linkMTU is the MTU of the link that has an address; 0 where none has it.
func linkMTU(a netip.Addr) int {
	links, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, l := range links {
		all, err := l.Addrs()
		if err != nil {
			continue
		}
		for _, x := range all {
			if p, err := netip.ParsePrefix(x.String()); err == nil && p.Addr().Unmap() == a.Unmap() {
				return l.MTU
			}
		}
	}
	return 0
}
