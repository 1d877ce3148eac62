// Package certs is the contract of plugins that sign certificates. A plugin
// sees CSRs only: keys of leaf certificates never leave the core, and the core
// checks every CSR before and every certificate after Sign.
package certs

import (
	"context"
	"time"

	"mk8s.io/mk/sdk/plugin"
)

// Authorities. They are cluster-wide and must have different roots: etcd
// accepts whoever its authority signed, and the front-proxy's may impersonate
// anyone.
const (
	Kubernetes = "kubernetes"
	FrontProxy = "front-proxy"
	Datastore  = "datastore"
)

// Names lists the authorities.
func Names() []string { return []string{Kubernetes, FrontProxy, Datastore} }

// Usages of a certificate.
const (
	DigitalSignature = "digital-signature"
	KeyEncipherment  = "key-encipherment"
	ServerAuth       = "server-auth"
	ClientAuth       = "client-auth"
)

// Plugin is a certs plugin.
type Plugin interface {
	plugin.Plugin
	// Bootstrap makes an authority of a generation, or finds it.
	Bootstrap(ctx context.Context, r BootstrapRequest) (Authority, error)
	// Authorities says what is trusted, newest generation first. It changes nothing.
	Authorities(ctx context.Context, names []string) ([]Authority, error)
	// Sign answers a batch, one result for each request, in the same order.
	// An error means that nothing of the batch was decided.
	Sign(ctx context.Context, r SignRequest) ([]SignResult, error)
	// Retire ends a generation: the last step of a rotation, or its undo.
	Retire(ctx context.Context, r RetireRequest) error
}

// CrossSigner is implemented where the old generation can sign the new one
// (capability cross-sign).
type CrossSigner interface {
	CrossSign(ctx context.Context, r CrossSignRequest) (certificate []byte, err error)
}

// Revoker is implemented where certificates can be made invalid (capability
// revoke).
type Revoker interface {
	Revoke(ctx context.Context, r RevokeRequest) error
}

// Capabilities of the optional interfaces.
const (
	CapabilityCrossSign = "cross-sign"
	CapabilityRevoke    = "revoke"
)

// BootstrapRequest names the authority wanted.
type BootstrapRequest struct {
	Call       plugin.Call
	Authority  string
	Generation uint32 // counts from 1
	KeyType    string // ecdsa-p256 or rsa-2048; a wish
	Now        time.Time
}

// Authority is one generation of one authority.
type Authority struct {
	Name           string
	Generation     uint32
	Chain          []byte // PEM sent after a leaf; empty where the root signs
	ServerBundle   []byte // PEM that verifies servers
	ClientBundle   []byte // PEM that verifies clients, and all of the datastore; never a root that others have certificates of
	MaxLife        time.Duration
	KeyTypes       []string // empty means all
	PermittedNames []string // DNS suffixes and CIDRs; empty means all
	SharesKeyWith  []string
	KeyLocation    string // for people
}

// CertificateRequest is one certificate wanted. The CSR carries the key; what
// the certificate may say stands beside it and was checked by the core.
type CertificateRequest struct {
	ID                string
	CSR               []byte // PEM
	Authority         string
	Generation        uint32 // 0 means the newest
	Profile           string
	Life              time.Duration
	CommonName        string
	Organizations     []string
	DNSNames          []string
	IPAddresses       []string
	KeyUsages         []string
	ExtendedKeyUsages []string
}

// SignRequest is a batch.
type SignRequest struct {
	Call     plugin.Call
	Requests []CertificateRequest
	Now      time.Time
}

// SignResult answers one request; exactly one of the outcomes is set.
type SignResult struct {
	ID      string
	Granted *Granted
	Pending *plugin.NotYet
	Refused *Refused
}

// Granted holds the certificate.
type Granted struct {
	Certificate []byte   // PEM: the leaf first, then what must be sent with it
	Changes     []string // what differs from the request, in the user's words
}

// Refused says why there is no certificate.
type Refused struct {
	Reason  plugin.Reason
	Message string
}

// RetireRequest names the generation that ends.
type RetireRequest struct {
	Call       plugin.Call
	Authority  string
	Generation uint32
}

// CrossSignRequest asks the old generation to sign the new one's certificate.
type CrossSignRequest struct {
	Call        plugin.Call
	Authority   string
	Generation  uint32
	Certificate []byte // PEM
	Now         time.Time
}

// RevokeRequest names a certificate.
type RevokeRequest struct {
	Call      plugin.Call
	Authority string
	Serial    string // hexadecimal
	Reason    string
}
