package membership

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

// InviteOptions say whom to invite.
type InviteOptions struct {
	Token    string
	Lifetime time.Duration
	Uses     uint32
	Worker   bool
}

// Invite makes a token and answers what a new node needs to use it.
func (n Node) Invite(ctx context.Context, o InviteOptions) (clustering.Invitation, error) {
	if n.Record.Role == node.Worker {
		return clustering.Invitation{}, &plugin.Error{Reason: plugin.NotPossible, Message: "a worker cannot invite others", Next: "mk add-node, on a control-plane node"}
	}
	if err := n.hidden(); err != nil {
		return clustering.Invitation{}, err
	}
	fingerprint, err := n.fingerprint()
	if err != nil {
		return clustering.Invitation{}, err
	}
	c, _, facts, err := n.Strategy(ctx)
	if err != nil {
		return clustering.Invitation{}, err
	}
	role := plugin.RoleControlPlane
	if o.Worker {
		role = plugin.RoleWorker
	}
	return c.Invite(ctx, clustering.InviteRequest{
		Call: plugin.Call{OperationID: node.NewID()}, Node: facts, Role: role,
		Lifetime: o.Lifetime, Uses: o.Uses, Token: o.Token, Fingerprint: fingerprint,
	})
}

// hidden refuses a node that nobody reaches: its certificates, or its agent,
// are for 127.0.0.1 only.
func (n Node) hidden() error {
	if a, err := netip.ParseAddr(n.Record.Address); err == nil && a.IsLoopback() {
		return &plugin.Error{Reason: plugin.NotPossible, Message: "this node was made for " + n.Record.Address + " only: no other can reach it",
			Next: "mk reset --all, then, with an address of this machine: mk start --address ADDRESS"}
	}
	bind, err := n.AgentBind()
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(bind)
	if err != nil {
		return plugin.Errorf(plugin.BadSettings, "%s: bind is %q, not ADDRESS:PORT", n.Root.Args("cluster-agent"), bind)
	}
	if a, err := netip.ParseAddr(host); host == "localhost" || err == nil && a.IsLoopback() {
		return &plugin.Error{Reason: plugin.NotPossible, Message: "the agent of this node listens on " + host + " only: no other can reach it",
			Next: fmt.Sprintf("mk args set cluster-agent bind=0.0.0.0:%d", n.AgentPort())}
	}
	return nil
}

// fingerprint is what joiners pin: the key of the agent's certificate.
func (n Node) fingerprint() (string, error) {
	cert, err := n.agentCertificate()
	if err != nil {
		return "", err
	}
	return peer.Fingerprint(cert), nil
}

func (n Node) agentCertificate() (*x509.Certificate, error) {
	data, err := n.Root.ReadFile("certs/server.crt")
	if err != nil {
		return nil, err
	}
	return pki.ParseCertificate(data)
}

// checkDigits is how much MicroK8s' clients compare of a certificate's SHA-256.
const checkDigits = 12

// GuestStrings are the connection strings of an invitation for MicroK8s' own
// clients, which take IPv4 addresses only and look at the certificate, not its
// key. There is none where they are not let in.
func (n Node) GuestStrings(i clustering.Invitation) ([]string, error) {
	if !n.AcceptsMicroK8s() {
		return nil, nil
	}
	cert, err := n.agentCertificate()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(cert.Raw)
	var out []string
	for _, s := range i.ConnectionStrings {
		address, _, _ := strings.Cut(s, "/")
		if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().Is4() {
			out = append(out, address+"/"+i.Token+"/"+hex.EncodeToString(sum[:])[:checkDigits])
		}
	}
	return out, nil
}
