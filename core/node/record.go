package node

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// RecordSchema is the newest schema of node.json that this mk knows. It reads
// this one and the one before, and writes this one.
const RecordSchema = 1

const recordName = "node.json"

// Role is what a node does in its cluster.
type Role string

// The roles.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
)

// Auth is how the five kubeconfigs authenticate.
type Auth string

// The ways to authenticate.
const (
	X509  Auth = "x509"
	Token Auth = "token"
)

// Network is what all nodes of a cluster agree on.
type Network struct {
	// PodCIDR and ServiceCIDR hold one prefix, or one of each family with a
	// comma between them.
	PodCIDR     string `json:"podCIDR"`
	ServiceCIDR string `json:"serviceCIDR"`
	DNS         string `json:"dns"`
	Domain      string `json:"domain"`
	APIPort     int    `json:"apiPort"`
	AgentPort   int    `json:"agentPort"`
	CNI         string `json:"cni,omitempty"`
}

// Record is node.json: what mk itself knows about this node.
type Record struct {
	Schema int `json:"schema"`
	// ID is this node's uuid; it stays when the name changes.
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Role      Role     `json:"role"`
	Address   string   `json:"address,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// ClusterID is the cluster's uuid; empty before there is one.
	ClusterID string  `json:"clusterID,omitempty"`
	Network   Network `json:"network"`
	Auth      Auth    `json:"auth"`
	// NoVote says that this control-plane node has no member of the datastore:
	// its API server uses those of others.
	NoVote    bool      `json:"noVote,omitempty"`
	Stopped   bool      `json:"stopped"`
	StoppedAt time.Time `json:"stoppedAt,omitzero"`
	// Off are services that do not run on this node, and KeepCertificates says
	// that new addresses lead to no new certificates: both were asked for by a
	// marker file in var/lock.
	Off              []string `json:"off,omitempty"`
	KeepCertificates bool     `json:"keepCertificates,omitempty"`
	// Drained says that a stop has cordoned this node: its next start takes that
	// back.
	Drained bool `json:"drained,omitempty"`
	// Installed is the version of mk that last changed this node.
	Installed string    `json:"installed,omitempty"`
	Created   time.Time `json:"created"`
}

// DefaultNetwork is MicroK8s': what people's scripts and manifests expect.
func DefaultNetwork() Network {
	return Network{
		PodCIDR: "10.1.0.0/16", ServiceCIDR: "10.152.183.0/24", DNS: "10.152.183.10",
		Domain: "cluster.local", APIPort: 16443, AgentPort: 25000,
	}
}

// NewRecord is the record of a control-plane node that was never started,
// with a new ID and the defaults. It is not checked yet and has no address.
func NewRecord(name string, created time.Time) *Record {
	return &Record{
		Schema: RecordSchema, ID: NewID(), Name: name, Role: ControlPlane,
		Network: DefaultNetwork(), Auth: X509, Created: created.UTC().Truncate(time.Second),
	}
}

// NewID is a random uuid (version 4).
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // never fails, says its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// LoadRecord reads node.json. The error is fs.ErrNotExist where there is none
// yet, ErrNewerSchema where a newer mk wrote it, and otherwise names the file
// and the line.
func (r *Root) LoadRecord() (*Record, error) {
	data, err := r.ReadFile(recordName)
	if err != nil {
		return nil, err
	}
	rec, err := ParseRecord(data)
	if err != nil {
		return nil, &FileError{fmt.Errorf("%s:%w", r.RecordFile(), err)}
	}
	return rec, nil
}

// FileError is a fault in a file that people may edit. Its text names the file
// and the line.
type FileError struct{ Err error }

// Error is what is wrong.
func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap gives what is wrong.
func (e *FileError) Unwrap() error { return e.Err }

// SaveRecord checks a record and writes it to node.json.
func (r *Root) SaveRecord(rec *Record) error {
	data, err := rec.Marshal()
	if err != nil {
		return r.wrap("save", recordName, err)
	}
	return r.WriteFile(recordName, data, r.Public())
}

// Marshal checks a record and is the content of its node.json, for who writes
// it as part of a journaled change.
func (rec *Record) Marshal() ([]byte, error) {
	out := *rec
	out.Schema = RecordSchema
	if err := out.Check(); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the record: %w", err)
	}
	return append(data, '\n'), nil
}

// ErrNewerSchema is returned for a node.json that a newer mk has written.
var ErrNewerSchema = errors.New("written by a newer mk")
