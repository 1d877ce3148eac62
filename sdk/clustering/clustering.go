// Package clustering is the contract of plugins that decide how control-plane
// nodes come and go. Workers are the core's own flow: no plugin is asked for
// them but Admit.
package clustering

import (
	"context"
	"time"

	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// Plugin is a clustering plugin.
type Plugin interface {
	plugin.Plugin
	// Init sets up the datastore of a first node.
	Init(ctx context.Context, r InitRequest) (plugin.Answer, error)
	// Invite answers what add-node prints.
	Invite(ctx context.Context, r InviteRequest) (Invitation, error)
	// Members says which members this node should dial. It changes nothing.
	Members(ctx context.Context, node plugin.Node) ([]Member, error)
	Joiner
	Server
}

// Joiner is asked on the node whose membership changes, or on one that stays.
type Joiner interface {
	Join(ctx context.Context, r JoinRequest) (plugin.Answer, error)
	Leave(ctx context.Context, r LeaveRequest) (plugin.Answer, error)
	Remove(ctx context.Context, r RemoveRequest) (plugin.Answer, error)
	// Abort takes back elsewhere what a failed operation did.
	Abort(ctx context.Context, r AbortRequest) (plugin.Answer, error)
}

// Server is asked on the node that serves a join.
type Server interface {
	// Admit decides whether a joiner may come.
	Admit(ctx context.Context, r AdmitRequest) (Verdict, error)
	// Serve answers one of the strategy's own routes.
	Serve(ctx context.Context, r ServeRequest) (Served, error)
}

// Approver is implemented where a person decides who joins (capability
// approval).
type Approver interface {
	Pending(ctx context.Context) ([]PendingJoin, error)
	Decide(ctx context.Context, d Decision) error
}

// CapabilityApproval names the optional interface Approver.
const CapabilityApproval = "approval"

// InitRequest holds the facts of the first node.
type InitRequest struct {
	Call plugin.Call
	Node plugin.Node
}

// InviteRequest says whom to invite.
type InviteRequest struct {
	Call        plugin.Call
	Node        plugin.Node
	Role        string
	Lifetime    time.Duration
	Uses        uint32
	Token       string // chosen by the user; empty has one made
	Fingerprint string // of the agent's key: SHA-256, hexadecimal
}

// Invitation is what add-node prints.
type Invitation struct {
	Token             string
	ConnectionStrings []string // the default address first
	Expires           time.Time
	Answer            plugin.Answer
}

// Reservation is what a joiner's token gave it.
type Reservation struct {
	ID         string
	Role       string
	BoundNames []string
	Until      time.Time
}

// AdmitRequest presents a joiner to the node that serves it.
type AdmitRequest struct {
	Call        plugin.Call
	Node        plugin.Node
	Joiner      plugin.Node
	Reservation Reservation
}

// Verdict is yes, not yet, or no because; exactly one is set.
type Verdict struct {
	Admitted *Admitted
	NotYet   *plugin.NotYet
	Denied   *Denied
}

// Admitted carries what Join on the joiner needs to know.
type Admitted struct{ Facts []byte }

// Denied says why not.
type Denied struct {
	Reason  plugin.Reason
	Message string
}

// JoinRequest is asked on the joiner.
type JoinRequest struct {
	Call        plugin.Call
	Node        plugin.Node
	Server      plugin.Node
	Reservation Reservation
	Facts       []byte
	NoVote      bool
}

// LeaveRequest is asked on the node that leaves.
type LeaveRequest struct {
	Call    plugin.Call
	Node    plugin.Node
	Members []Member
	Force   bool
}

// RemoveRequest is asked on a node that stays.
type RemoveRequest struct {
	Call    plugin.Call
	Node    plugin.Node
	Target  plugin.Node
	Members []Member
	Force   bool
}

// AbortRequest names the operation that failed and how far it came.
type AbortRequest struct {
	Call     plugin.Call
	Node     plugin.Node
	Question string // Join, Leave or Remove
	Steps    []plugin.Step
}

// ServeRequest is an HTTP request to one of the strategy's routes.
type ServeRequest struct {
	Call            plugin.Call
	Node            plugin.Node
	Method          string
	Path            string
	Headers         map[string]string
	Body            []byte // at most 64 KiB
	PeerAddress     string
	LocalAddress    string
	PeerCertificate []byte // PEM; empty without one
	Host            string
	Reservation     *Reservation
	Members         []Member // of the datastore just now
}

// Served is the HTTP answer. Its changes are applied before it is sent.
type Served struct {
	Status  int
	Headers map[string]string
	Body    []byte
	Answer  plugin.Answer
	Lease   *Lease
}

// Lease says until when something holds and how it is taken back.
type Lease struct {
	Until    time.Time
	TakeBack changeset.ChangeSet
}

// Member is a member of the datastore.
type Member struct {
	Name          string
	PeerAddress   string
	ClientAddress string
	Role          string // voter, learner or standby
}

// PendingJoin is a join that waits for a person.
type PendingJoin struct {
	Name        string
	Address     string
	Role        string
	Since       time.Time
	OperationID string
}

// Decision admits or refuses a pending join.
type Decision struct {
	Call    plugin.Call
	Name    string
	Approve bool
	Reason  string
}
