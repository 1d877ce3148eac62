// Package plugin holds what plugins of every kind share: who they are, what
// they may do, how a question is identified and answered, and the facts that
// questions carry. It knows no wire format.
package plugin

import (
	"context"
	"time"

	"mk8s.io/mk/sdk/changeset"
)

// Kinds of plugins.
const (
	KindCerts      = "certs"
	KindTokens     = "tokens"
	KindClustering = "clustering"
	KindAddons     = "addons"
)

// Kinds lists them, in the order in which a node needs them.
func Kinds() []string {
	return []string{KindCerts, KindClustering, KindTokens, KindAddons}
}

// Contract is the proto package that a plugin of a kind speaks, for example
// mk.certs.v1.
func Contract(kind string) string { return "mk." + kind + ".v1" }

// Identity names one release of one plugin.
type Identity struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Publisher string `json:"publisher,omitempty"`
}

// String is kind/name, as users write it.
func (i Identity) String() string { return i.Kind + "/" + i.Name }

// Grants limit what the ChangeSets of a plugin may hold. Globs are those of
// path.Match, with ** for any number of folders; paths are relative to the
// node's root folder. The zero value grants nothing.
type Grants struct {
	FilesRead    []string      `json:"filesRead,omitempty"`
	FilesWrite   []string      `json:"filesWrite,omitempty"`
	Services     []string      `json:"services,omitempty"`
	Arguments    []string      `json:"arguments,omitempty"` // service/option
	Certificates []string      `json:"certificates,omitempty"`
	Objects      []ObjectGrant `json:"objects,omitempty"`
	Network      []string      `json:"network,omitempty"` // host:port; empty means no network at all
	Members      bool          `json:"members,omitempty"`
	Locks        []string      `json:"locks,omitempty"`
	Trust        []string      `json:"trust,omitempty"`
	HostExec     bool          `json:"hostExec,omitempty"`
}

// ObjectGrant names kinds of Kubernetes objects. "*" stands for any; no
// namespace means cluster-scoped objects.
type ObjectGrant struct {
	Group      string   `json:"group"`
	Kinds      []string `json:"kinds"`
	Namespaces []string `json:"namespaces,omitempty"`
}

// StepDescription names a step that an operation of a plugin may take.
type StepDescription struct {
	Question  string `json:"question"`
	Name      string `json:"name"`
	Revocable bool   `json:"revocable"`
	Summary   string `json:"summary,omitempty"`
}

// Route is one of the agent's routes that a clustering plugin answers.
type Route struct {
	Method   string   `json:"method"`
	Path     string   `json:"path"`
	Headers  []string `json:"headers,omitempty"`
	Reserved bool     `json:"reserved,omitempty"`
}

// Description is what a plugin says of itself. It must equal its manifest.
type Description struct {
	Identity     Identity          `json:"identity"`
	Contracts    []string          `json:"contracts"`
	Capabilities []string          `json:"capabilities,omitempty"`
	Settings     []byte            `json:"settings,omitempty"` // JSON Schema; secrets are writeOnly
	Grants       Grants            `json:"grants"`
	Steps        []StepDescription `json:"steps,omitempty"`
	Exportable   bool              `json:"exportable,omitempty"`
	Routes       []Route           `json:"routes,omitempty"`
}

// Configuration is what a process needs to work. It is handed over once after
// every start, before any other question.
type Configuration struct {
	Settings  []byte // one JSON object that the settings schema accepted
	StateDir  string // the plugin's own folder; survives the process
	ClusterID string
}

// Plugin is what every plugin implements. Describe, Configure and Health must
// change nothing outside the process.
type Plugin interface {
	Describe(ctx context.Context) (Description, error)
	Configure(ctx context.Context, c Configuration) error
	Health(ctx context.Context) error
	// Forget drops everything that belongs to this cluster; again is no error.
	Forget(ctx context.Context, call Call) error
}

// Exporter is implemented where state can be taken to another node or plugin.
type Exporter interface {
	// PrepareImport makes a key pair and answers its public half.
	PrepareImport(ctx context.Context, call Call) (recipient []byte, err error)
	// Export seals the state to the recipient, bound to binding.
	Export(ctx context.Context, call Call, recipient, binding []byte) (Sealed, error)
	// Import takes over what Export sealed to the key of PrepareImport.
	Import(ctx context.Context, call Call, sealed Sealed, binding []byte) error
}

// Sealed is state that only the holder of one key can read.
type Sealed struct {
	Data   []byte
	Format string // what is inside, so that another plugin knows whether it can read it
}

// Call identifies one question of one operation: the same id gives the same
// answer, however often it is asked and whoever died in between.
type Call struct {
	OperationID string
	Step        Step
}

// Step is where an operation of several steps stands. State is opaque to the
// core, which treats it like a secret file.
type Step struct {
	Name  string `json:"name"`
	State []byte `json:"state,omitempty"`
}

// IsZero reports whether no step is named: the beginning, or the end.
func (s Step) IsZero() bool { return s.Name == "" }

// NotYet says that the same question is to be asked again.
type NotYet struct {
	RetryAfter time.Duration
	WaitingFor string
}

// Answer is the part of an answer that may change something: changes with an
// optional next step, or NotYet and nothing else.
type Answer struct {
	Changes changeset.ChangeSet
	Next    Step
	NotYet  *NotYet
}

// Roles of nodes.
const (
	RoleControlPlane = "control-plane"
	RoleWorker       = "worker"
)

// Node holds the facts of one node.
type Node struct {
	Name      string
	Role      string
	Address   string
	Addresses []string
	Hostname  string
	Versions  map[string]string
	Files     map[string][]byte // those that the grants name
	Cluster   Cluster
}

// Cluster holds the facts that all nodes share.
type Cluster struct {
	ID          string
	PodCIDR     string
	ServiceCIDR string
	DNSAddress  string
	DNSDomain   string
	APIPort     uint32
	AgentPort   uint32
}
