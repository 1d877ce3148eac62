// Package tokens is the contract of plugins that keep tokens: who may join,
// and who may ask for what. At rest tokens are hashes; they are compared in
// constant time.
package tokens

import (
	"context"
	"time"

	"mk8s.io/mk/sdk/plugin"
)

// Purpose is what a token is good for.
type Purpose string

// Purposes.
const (
	Join               Purpose = "join"
	Persistent         Purpose = "persistent"
	Callback           Purpose = "callback"
	CertificateRequest Purpose = "certificate-request"
)

// Plugin is a tokens plugin.
type Plugin interface {
	plugin.Plugin
	// Issue makes a token.
	Issue(ctx context.Context, r IssueRequest) (Issued, error)
	// Revoke ends a token.
	Revoke(ctx context.Context, call plugin.Call, id string) error
	// List shows tokens without their secret, oldest first. It changes nothing.
	List(ctx context.Context, expired bool) ([]Token, error)
	// Static answers the credentials of known_tokens.csv, in the order asked.
	Static(ctx context.Context, call plugin.Call, want []Credential) ([]Credential, error)
	Reserver
}

// Reserver is the part of the contract that spends tokens.
type Reserver interface {
	// Reserve lets exactly one claimant hold a use of a token for a while.
	// Asking again prolongs. Reasons: plugin.TokenUnknown, TokenExpired,
	// TokenUsed, TokenReserved.
	Reserve(ctx context.Context, r ReserveRequest) (Reservation, error)
	// Commit spends the use that a reservation holds.
	Commit(ctx context.Context, call plugin.Call, reservationID string) error
	// Release gives the use back.
	Release(ctx context.Context, call plugin.Call, reservationID string) error
}

// IssueRequest says what the token is for.
type IssueRequest struct {
	Call       plugin.Call
	Purpose    Purpose
	Role       string
	BoundNames []string      // node names; empty means any
	Lifetime   time.Duration // 0 means for ever
	Uses       uint32        // 0 means without bound
	Token      string        // chosen by the user, at least 32 characters; empty makes one
}

// Issued holds the token, for the only time.
type Issued struct {
	Token   string
	ID      string
	Expires time.Time // zero means never
}

// Claimant is who wants to hold a token: a key, or a MicroK8s client that has
// none yet.
type Claimant struct {
	KeyFingerprint string // SHA-256 of the SubjectPublicKeyInfo, hexadecimal
	Name           string
	Address        string
}

// ReserveRequest presents a token.
type ReserveRequest struct {
	Call     plugin.Call
	Token    string
	Claimant Claimant
	Purpose  Purpose
	Lease    time.Duration
}

// Reservation says what the token is good for.
type Reservation struct {
	ID         string
	TokenID    string
	Purpose    Purpose
	Role       string
	BoundNames []string
	Until      time.Time
}

// Token is a token without its secret.
type Token struct {
	ID         string
	Purpose    Purpose
	Role       string
	BoundNames []string
	Created    time.Time
	Expires    time.Time // zero means never
	UsesLeft   uint32
	Unbounded  bool
	ReservedBy []Claimant
}

// Credential is one line of known_tokens.csv.
type Credential struct {
	Token  string
	User   string
	UID    string
	Groups []string
}
