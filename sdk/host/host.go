// Package host is what a plugin may ask the host while it answers a question.
package host

import (
	"context"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/tokens"
)

// SocketVariable names the environment variable that holds the path of the
// host's unix socket.
const SocketVariable = "MK_HOST_SOCKET"

// Host answers plugins. What a plugin may ask is limited by its kind and its
// grants; a refusal is an error with a reason.
type Host interface {
	tokens.Reserver
	Issue(ctx context.Context, r tokens.IssueRequest) (tokens.Issued, error)
	Sign(ctx context.Context, r certs.SignRequest) ([]certs.SignResult, error)
	Authorities(ctx context.Context, names []string) ([]certs.Authority, error)
	// Peer sends a request to a Serve route of a node of this cluster or join.
	Peer(ctx context.Context, r PeerRequest) (PeerResponse, error)
	// Read answers a file below the root folder that the grants name.
	Read(ctx context.Context, path string) (File, error)
	// Progress shows a line to whoever waits.
	Progress(ctx context.Context, operationID, message string) error
}

// PeerRequest is sent to another node's agent.
type PeerRequest struct {
	OperationID string
	Node        string // empty means the node that serves this join
	Method      string
	Path        string
	Headers     map[string]string
	Body        []byte // at most 64 KiB
}

// PeerResponse is its answer.
type PeerResponse struct {
	Status  int
	Headers map[string]string
	Body    []byte
}

// File is a file's content, or its absence.
type File struct {
	Content []byte
	Absent  bool
	Digest  string // for changeset.Operation.Expects
}
