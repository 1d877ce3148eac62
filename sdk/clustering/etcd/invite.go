package etcd

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// Invite has the host issue a token, and answers what a new node needs to
// know to use it: one line for every address of this node, the default one
// first. The fingerprint pins this node's key, so that nobody else can take
// the token.
func (p *Etcd) Invite(ctx context.Context, r clustering.InviteRequest) (clustering.Invitation, error) {
	if r.Node.Role == plugin.RoleWorker {
		return clustering.Invitation{}, &plugin.Error{Reason: plugin.NotPossible,
			Message: "a worker cannot invite others", Next: "mk add-node, on a control-plane node"}
	}
	addresses, err := reachable(r.Node)
	if err != nil {
		return clustering.Invitation{}, err
	}
	if b, err := hex.DecodeString(r.Fingerprint); err != nil || len(b) != 32 {
		return clustering.Invitation{}, plugin.Errorf(plugin.BadArgument, "the fingerprint %.80q is no SHA-256 in hexadecimal", r.Fingerprint)
	}
	if port := r.Node.Cluster.AgentPort; port == 0 || port > 65535 {
		return clustering.Invitation{}, plugin.Errorf(plugin.BadArgument, "the agent's port %d is none", port)
	}
	h, err := p.host()
	if err != nil {
		return clustering.Invitation{}, fmt.Errorf("issue a token: %w", err)
	}
	issued, err := h.Issue(ctx, tokens.IssueRequest{
		Call: r.Call, Purpose: tokens.Join, Role: r.Role, Lifetime: r.Lifetime, Uses: r.Uses, Token: r.Token,
	})
	if err != nil {
		return clustering.Invitation{}, fmt.Errorf("issue a token: %w", err)
	}
	out := clustering.Invitation{Token: issued.Token, Expires: issued.Expires}
	port := strconv.Itoa(int(r.Node.Cluster.AgentPort))
	for _, a := range addresses {
		out.ConnectionStrings = append(out.ConnectionStrings, net.JoinHostPort(a.String(), port)+"/"+issued.Token+"/"+r.Fingerprint)
	}
	return out, nil
}

// reachable are the addresses of a node at which others find it.
func reachable(n plugin.Node) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range append([]string{n.Address}, n.Addresses...) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, plugin.Errorf(plugin.BadArgument, "the node's address %.80q is not an IP address", s)
		}
		if a = a.Unmap(); !a.IsLoopback() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, plugin.Errorf(plugin.NotPossible, "this node has no address at which others could reach it, only %q", n.Address)
	}
	return out, nil
}

// Admit decides on the serving node whether a joiner may come: its role and
// name are what its token gave it, its name and address are its own, and its
// Kubernetes is one that can run beside this node's. It changes nothing.
func (p *Etcd) Admit(_ context.Context, r clustering.AdmitRequest) (clustering.Verdict, error) {
	if reason, why := refuse(r); why != "" {
		return clustering.Verdict{Denied: &clustering.Denied{Reason: reason, Message: why}}, nil
	}
	return clustering.Verdict{Admitted: &clustering.Admitted{}}, nil
}

func refuse(r clustering.AdmitRequest) (reason plugin.Reason, why string) {
	j := r.Joiner
	address, err := netip.ParseAddr(j.Address)
	switch {
	case j.Role != plugin.RoleWorker && j.Role != plugin.RoleControlPlane:
		return plugin.BadArgument, fmt.Sprintf("the role %.40q is unknown", j.Role)
	// A token for a control-plane node is good for a worker, which gets less.
	case r.Reservation.Role == plugin.RoleWorker && j.Role != plugin.RoleWorker:
		return plugin.NotPossible, fmt.Sprintf("the token is for a %s, not for a %s", r.Reservation.Role, j.Role)
	case j.Name == "":
		return plugin.BadArgument, "the joining node has no name"
	case len(r.Reservation.BoundNames) > 0 && !slices.Contains(r.Reservation.BoundNames, j.Name):
		return plugin.NotPossible, fmt.Sprintf("the token is for %q, not for %.80q", r.Reservation.BoundNames, j.Name)
	case j.Name == r.Node.Name:
		return plugin.NotPossible, fmt.Sprintf("the name %.80q is taken by the node that was asked", j.Name)
	case err != nil || address.IsLoopback() || address.IsUnspecified():
		return plugin.BadArgument, fmt.Sprintf("others cannot reach the joining node at %.80q", j.Address)
	case slices.Contains(append([]string{r.Node.Address}, r.Node.Addresses...), j.Address):
		return plugin.NotPossible, fmt.Sprintf("the address %s is the one of the node that was asked", j.Address)
	case j.Role == plugin.RoleControlPlane:
		return plugin.NotPossible, planeSkew(r.Node.Versions[kubernetes], j.Versions[kubernetes])
	}
	return plugin.NotPossible, skew(r.Node.Versions[kubernetes], j.Versions[kubernetes])
}
