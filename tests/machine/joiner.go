package machine

import (
	"crypto"
	"crypto/tls"
	"encoding/pem"
	"net"
	"strconv"
	"time"

	"mk8s.io/mk/core/joinstring"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/version"
	"mk8s.io/mk/sdk/plugin"
)

// Joiner is a worker that would join through the agent of the machine that it
// dials from: with a key of its own, and what it asks with.
type Joiner struct {
	Client  *peer.Client
	Key     crypto.Signer
	Request peer.Begin
}

// NewJoiner makes the key. Of the options, whom to trust and who asks are set.
func NewJoiner(i joinstring.Invitation, name, address string, o peer.Options) (*Joiner, error) {
	key, _, err := pki.NewKey(pki.ECDSAP256)
	if err != nil {
		return nil, err
	}
	cert, err := pki.SelfSigned(key, "mk joiner", time.Now())
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(cert)
	o.Fingerprint, o.Client = i.Fingerprint, &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	return &Joiner{Client: peer.New(net.JoinHostPort("127.0.0.1", strconv.Itoa(i.Port)), o), Key: key, Request: peer.Begin{
		Token: i.Token, Operation: node.NewID(), NodeID: node.NewID(), Name: name, Role: plugin.RoleWorker, Address: address,
		Addresses: []string{address}, AgentPort: i.Port, Versions: map[string]string{"mk": version.Version, "kubernetes": operation.KubernetesVersion},
	}}, nil
}
