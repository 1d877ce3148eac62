package membership

import (
	"context"
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

// fingerprint is what joiners pin: the key of the agent's certificate.
func (n Node) fingerprint() (string, error) {
	data, err := n.Root.ReadFile("certs/server.crt")
	if err != nil {
		return "", err
	}
	cert, err := pki.ParseCertificate(data)
	if err != nil {
		return "", err
	}
	return peer.Fingerprint(cert), nil
}
