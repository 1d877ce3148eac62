package membership

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/microk8s"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// guestsWelcome refuses what this node does not do for MicroK8s' clients.
func (n Node) guestsWelcome() error {
	accepts, err := n.SettingNow("accept-microk8s")
	switch {
	case err != nil:
		return err
	case accepts.Value != "true":
		return notHere("this cluster lets no client of MicroK8s in: mk settings set accept-microk8s true, on this node")
	case n.Record.Role != node.ControlPlane:
		return notHere("this node is a worker: ask a control-plane node")
	}
	return nil
}

func notHere(format string, a ...any) error {
	return &microk8s.Refusal{Status: microk8s.StatusNotHere, Message: fmt.Sprintf(format, a...)}
}

// guestKey names a joiner that has no key yet by its name and address. No
// caller's key looks like it: those are hexadecimal.
func guestKey(name string, address netip.Addr) string {
	return "microk8s:" + name + "@" + address.String()
}

// GuestJoin lets a worker of MicroK8s in: its token is reserved, and spent when
// both of its certificates are signed. Asked again, it goes on.
func (n Node) GuestJoin(ctx context.Context, who Caller, j microk8s.Join) (*microk8s.Joined, error) {
	b, err := n.guestBegin(who, j)
	if err != nil {
		return nil, err
	}
	who.Key = guestKey(b.Name, who.Address)
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	t, _, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	held, err := t.Reserve(ctx, tokens.ReserveRequest{
		Call: plugin.Call{OperationID: node.NewID() + "/reserve"}, Token: b.Token, Purpose: tokens.Join, Lease: tokenLease,
		Claimant: tokens.Claimant{Name: b.Name, Address: b.Address},
	})
	if err != nil {
		return nil, badToken(err)
	}
	b.Operation = guestOperation(held.ID)
	var begun *peer.Begun
	if err = within(b, held); err == nil {
		begun, err = n.admit(ctx, store, who, b, held)
	}
	if err == nil && begun.NotYet != nil {
		// The reservation stays: the same machine asks again.
		return nil, &microk8s.Refusal{Status: http.StatusServiceUnavailable, Message: "not yet, ask again: " + begun.NotYet.WaitingFor}
	}
	var out *microk8s.Joined
	if err == nil {
		out, err = n.guestAnswer(ctx, t, store, b, begun)
	}
	if err == nil {
		return out, nil
	}
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return nil, errors.Join(err, t.Release(release, plugin.Call{OperationID: b.Operation + "/release"}, held.ID))
}

// guestOperation is the join that a reservation is for: a guest that tries
// again has the same reservation, and names no join of its own.
func guestOperation(reservation string) string {
	sum := sha256.Sum256([]byte("microk8s join " + reservation))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// badToken hides from a stranger what is wrong with a token.
func badToken(err error) error {
	e, ok := errors.AsType[*plugin.Error](err)
	if !ok {
		return err
	}
	switch e.Reason {
	case plugin.TokenUnknown, plugin.TokenUsed, plugin.TokenExpired, plugin.TokenReserved:
		return microk8s.InvalidToken(fmt.Errorf("%s: %w", e.Reason, err))
	}
	return err
}

// guestBegin holds a joiner to what can be said without its token.
func (n Node) guestBegin(who Caller, j microk8s.Join) (peer.Begin, error) {
	b := peer.Begin{
		Token: j.Token, Name: strings.ToLower(j.Hostname), Role: plugin.RoleWorker,
		Address: who.Address.String(), Addresses: []string{who.Address.String()}, Now: n.Now(),
	}
	if err := n.guestsWelcome(); err != nil {
		return b, err
	}
	if !j.Worker {
		return b, notHere("a MicroK8s node cannot be a control-plane node of this cluster, whose datastore is etcd and whose keys travel sealed: microk8s join with --worker, or mk join")
	}
	port := strconv.Itoa(n.AgentPort())
	if j.Port != port {
		return b, &microk8s.Refusal{Status: microk8s.StatusOtherPort, Message: fmt.Sprintf("the port of the cluster agent has to be %s", port)}
	}
	b.AgentPort = n.AgentPort()
	if asked, err := netip.ParseAddrPort(who.Host); who.Address.String() == n.Record.Address || (err == nil && asked.Addr().Unmap() == who.Address) {
		return b, &microk8s.Refusal{Status: microk8s.StatusSameNode, Message: "the joining node has the same address as the node that it asks"}
	}
	if err := pki.CheckNodeName(b.Name); err != nil {
		return b, &microk8s.Refusal{Status: http.StatusBadRequest, Message: "the host name cannot be a node's", Err: err}
	}
	return b, nil
}

// guestAnswer makes the tokens with which the joiner asks for certificates, and
// says what it needs to know.
func (n Node) guestAnswer(ctx context.Context, t tokens.Plugin, store cluster.Members, b peer.Begin, begun *peer.Begun) (*microk8s.Joined, error) {
	trust := begun.Trust[certs.Kubernetes]
	if !bytes.Equal(trust.Servers, trust.Clients) {
		return nil, notHere("this cluster trusts servers and clients by different certificates, for which MicroK8s has one file: mk join")
	}
	m, err := store.Get(ctx, b.Name)
	if err != nil {
		return nil, err
	}
	if m == nil || m.Operation != b.Operation {
		return nil, fmt.Errorf("node %s: %w", b.Name, cluster.ErrChanged)
	}
	if err := revokeAll(ctx, t, m); err != nil {
		return nil, err
	}
	m.Guest = &cluster.Guest{}
	round := b.Operation + "/" + node.NewID()
	for _, suffix := range []string{microk8s.KubeletSuffix, microk8s.ProxySuffix} {
		issued, err := t.Issue(ctx, tokens.IssueRequest{
			Call: plugin.Call{OperationID: round + suffix}, Purpose: tokens.CertificateRequest, Role: plugin.RoleWorker,
			BoundNames: []string{b.Name}, Lifetime: joinLease, Uses: 1, Token: b.Token + suffix,
		})
		if err != nil {
			return nil, err
		}
		m.Guest.Tokens = append(m.Guest.Tokens, issued.ID)
	}
	if err := store.Put(ctx, m); err != nil {
		return nil, err
	}
	api, err := args.Load(n.Root.Args("kube-apiserver"))
	if err != nil {
		return nil, err
	}
	mode, _ := api.Get("authorization-mode")
	out := &microk8s.Joined{
		// It opens nothing here: by it the joiner knows whom it lets configure
		// it, and that is nobody.
		CallbackToken: rand.Text() + rand.Text(),
		CA:            string(trust.Servers), APIPort: strconv.Itoa(n.Record.Network.APIPort), AuthorizationMode: mode,
		KubeletArgs:      microk8s.Kubelet{DNS: n.Record.Network.DNS, Domain: n.Record.Network.Domain}.Args(),
		HostnameOverride: b.Address, ClusterCIDR: n.Record.Network.PodCIDR, ControlPlaneNodes: []string{},
	}
	for _, s := range begun.APIServers {
		if a, err := netip.ParseAddrPort(s); err == nil {
			out.ControlPlaneNodes = append(out.ControlPlaneNodes, a.Addr().String())
		}
	}
	return out, nil
}

// revokeAll ends the tokens with which a guest asks for certificates.
func revokeAll(ctx context.Context, t tokens.Plugin, m *cluster.Member) error {
	if m.Guest == nil {
		return nil
	}
	for _, id := range m.Guest.Tokens {
		if err := t.Revoke(ctx, plugin.Call{OperationID: m.Operation + "/revoke/" + id}, id); err != nil && !errors.Is(err, plugin.TokenUnknown) {
			return err
		}
	}
	return nil
}

// guestProfile is what a token asks for: its end says it, and the whole of it
// was given out.
func guestProfile(token string) (pki.Profile, error) {
	switch {
	case strings.HasSuffix(token, microk8s.KubeletSuffix):
		return pki.Find(pki.Kubelet)
	case strings.HasSuffix(token, microk8s.ProxySuffix):
		return pki.Find(pki.Proxy)
	}
	return pki.Profile{}, plugin.Errorf(plugin.TokenUnknown, "the token ends in neither %s nor %s", microk8s.KubeletSuffix, microk8s.ProxySuffix)
}

// GuestSign certifies a key of a MicroK8s worker that joins: role and name are
// the token's. With the second certificate the node is a member, and the token
// that it joined with is spent.
func (n Node) GuestSign(ctx context.Context, who Caller, s microk8s.Sign) (*microk8s.Signed, error) {
	if err := n.guestsWelcome(); err != nil {
		return nil, err
	}
	profile, err := guestProfile(s.Token)
	if err != nil {
		return nil, badToken(err)
	}
	t, _, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	id := node.NewID()
	held, err := t.Reserve(ctx, tokens.ReserveRequest{
		Call: plugin.Call{OperationID: id + "/reserve"}, Token: s.Token, Purpose: tokens.CertificateRequest, Lease: time.Minute,
		Claimant: tokens.Claimant{Address: who.Address.String()},
	})
	if err != nil {
		return nil, badToken(err)
	}
	cert, err := n.guestSign(ctx, t, who, profile, s, held)
	if err == nil {
		return &microk8s.Signed{Certificate: string(cert)}, nil
	}
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if e := t.Release(release, plugin.Call{OperationID: id + "/release"}, held.ID); e != nil && !errors.Is(e, plugin.NotPossible) {
		err = errors.Join(err, e)
	}
	return nil, err
}

func (n Node) guestSign(ctx context.Context, t tokens.Plugin, who Caller, p pki.Profile, s microk8s.Sign, held tokens.Reservation) ([]byte, error) {
	store, all, err := n.records(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(m *cluster.Member) bool {
		return m.State == cluster.Joining && m.Guest != nil && slices.Contains(m.Guest.Tokens, held.TokenID) && m.Live(n.Now())
	})
	if i < 0 || all[i].Key != guestKey(all[i].Name, who.Address) {
		return nil, microk8s.InvalidToken(plugin.Errorf(JoinEnded, "no join is under way for which this token was given out, from %s", who.Address))
	}
	m := all[i]
	others := slices.DeleteFunc(slices.Clone(all), func(o *cluster.Member) bool { return o.Name == m.Name || !o.Live(n.Now()) })
	w, err := n.guestWish(m, others, p, []byte(s.Request))
	if err != nil {
		return nil, &microk8s.Refusal{Status: microk8s.StatusFailed, Message: err.Error()}
	}
	now := n.Now()
	signed, err := n.Issuer.SignFor(ctx, "for/"+m.Name, []operation.Request{w})
	if err != nil {
		return nil, err
	}
	cert, err := pki.ParseCertificate(signed[0])
	if err != nil {
		return nil, err
	}
	for _, a := range w.Names.IPs {
		if !slices.Contains(m.Addresses, a.String()) && !a.IsLoopback() {
			m.Addresses = append(m.Addresses, a.String())
		}
	}
	if p.Name == pki.Kubelet {
		// A guest has no agent of mk: by a key that is known nobody else is taken
		// for it.
		noteKey(m, peer.Fingerprint(cert))
	}
	if !slices.Contains(m.Guest.Signed, p.Name) {
		m.Guest.Signed = append(m.Guest.Signed, p.Name)
	}
	if err := t.Commit(ctx, plugin.Call{OperationID: m.Operation + "/commit/" + p.Name}, held.ID); err != nil {
		return nil, err
	}
	if len(m.Guest.Signed) == 2 {
		if err := t.Commit(ctx, plugin.Call{OperationID: m.Operation + "/commit"}, m.Reservation); err != nil {
			return nil, err
		}
		m.State, m.Joined, m.Seen = cluster.Joined, now.UTC(), now.UTC()
		m.Reservation, m.Server, m.Until = "", "", time.Time{}
	}
	return signed[0], store.Put(ctx, m)
}

// guestWish holds a request to the policy. MicroK8s' clients ask for every
// address of their machine; of those they get what no other node, no pod and no
// service has.
func (n Node) guestWish(m *cluster.Member, others []*cluster.Member, p pki.Profile, request []byte) (operation.Request, error) {
	w := operation.Request{CSR: request, Request: pki.Request{Profile: p, Node: m.Name}}
	csr, err := pki.ParseCSR(request)
	if err != nil {
		return w, err
	}
	w.Parsed = csr
	if p.Names == pki.NoNames {
		_, err := pki.CheckCSR(request, w.Request)
		return w, err
	}
	asked := pki.NamesOf(csr.DNSNames, csr.IPAddresses)
	w.Names = pki.Names{DNS: []string{m.Name}, IPs: asked.IPs}
	if _, err := pki.CheckCSR(request, w.Request); err != nil {
		return w, err
	}
	list := peer.Begin{Address: m.Address}
	for _, a := range asked.IPs {
		list.Addresses = append(list.Addresses, a.String())
	}
	own, err := ownAddresses(list, n.Record.Network.PodCIDR, n.Record.Network.ServiceCIDR, others)
	if err != nil {
		return w, err
	}
	granted, err := operation.NormalNames(asked.DNS, own)
	if err != nil {
		return w, err
	}
	if granted.Empty() {
		return w, plugin.Errorf(NotPermitted, "the request names neither %s nor an address of its own", m.Name)
	}
	w.Names, w.Granted = granted, &granted
	return w, nil
}
