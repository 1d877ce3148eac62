// Package changeset is the data that plugins answer with and that only the
// core applies: which files, certificates, service arguments, locks, services
// and Kubernetes objects should change. It applies nothing.
package changeset

import "time"

// Scope says where an operation holds.
type Scope string

// Scopes.
const (
	ScopeNode    Scope = "node"    // this node
	ScopeCluster Scope = "cluster" // every node, through what the cluster wants
)

// Absent is the expectation that a path or option is not there.
const Absent = "absent"

// ChangeSet is a list of operations, applied in order and as a whole.
type ChangeSet struct {
	Operations []Operation
}

// Operation is one change, and under which condition.
type Operation struct {
	Scope   Scope  // empty means ScopeNode
	Expects string // "sha256:…", Absent or empty; else nothing is applied and the plugin is asked again
	Why     string // one line for people
	Action  Action
}

// Action is one of the types below.
type Action interface {
	check(l *list)           // names the action's faults
	put(f *operationForm)    // where it stands in JSON
	show() (verb, to string) // what is done to what, without values
}

// MakeFolder makes a folder and its parents; existing ones are left as they are.
type MakeFolder struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode,omitempty"` // 0 means 0755
}

// WriteFile replaces a file as a whole.
type WriteFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
	Mode    uint32 `json:"mode,omitempty"` // 0 means 0644, or 0600 for a secret
	Secret  bool   `json:"secret,omitempty"`
}

// MovePath renames a file or folder; the target must not exist.
type MovePath struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// RemovePath removes a file, or a folder with all it holds.
type RemovePath struct {
	Path string `json:"path"`
}

// SetArgument sets an option in args/<service>. Removing an owner's option
// restores what the owner found.
type SetArgument struct {
	Service string  `json:"service"`
	Option  string  `json:"option"` // without leading dashes
	Value   *string `json:"value,omitempty"`
	Owner   string  `json:"owner,omitempty"`
	Secret  bool    `json:"secret,omitempty"`
}

// RemoveArgument removes an option, or what an owner had set.
type RemoveArgument struct {
	Service string `json:"service"`
	Option  string `json:"option"`
	Owner   string `json:"owner,omitempty"`
}

// SetLock makes a marker lock.
type SetLock struct {
	Name string `json:"name"`
}

// ClearLock removes a marker lock.
type ClearLock struct {
	Name string `json:"name"`
}

// ServiceAction is what is done to a service.
type ServiceAction string

// Service actions. Restarts happen once, at the end of the apply phase.
const (
	Start   ServiceAction = "start"
	Stop    ServiceAction = "stop"
	Restart ServiceAction = "restart"
	Enable  ServiceAction = "enable"
	Disable ServiceAction = "disable"
)

// ControlService starts, stops, restarts, enables or disables a service.
type ControlService struct {
	Service string        `json:"service"`
	Action  ServiceAction `json:"action"`
}

// IssueCertificate has the core make a key, ask for a certificate, check it
// and switch the pair.
type IssueCertificate struct {
	Profile     string        `json:"profile"` // fixes subject, usages and files
	DNSNames    []string      `json:"dnsNames,omitempty"`
	IPAddresses []string      `json:"ipAddresses,omitempty"`
	Life        time.Duration `json:"life,omitempty"`
	Peer        string        `json:"peer,omitempty"` // a control-plane node's agent; empty asks the local issuer
}

// SetTrust sets the bundles that verify an authority's certificates.
type SetTrust struct {
	Authority string `json:"authority"`
	Bundle    []byte `json:"bundle"` // verifies servers; PEM
	// ClientBundle verifies clients; empty where Bundle does that, too.
	ClientBundle []byte `json:"clientBundle,omitempty"`
}

// Clients is the bundle that verifies clients.
func (a SetTrust) Clients() []byte {
	if len(a.ClientBundle) > 0 {
		return a.ClientBundle
	}
	return a.Bundle
}

// MemberAction is what is done to a datastore member.
type MemberAction string

// Member actions; each looks first what is already so.
const (
	AddLearner   MemberAction = "addLearner"
	Promote      MemberAction = "promote"
	RemoveMember MemberAction = "remove"
)

// ChangeMember changes the datastore's membership.
type ChangeMember struct {
	Action      MemberAction `json:"action"`
	PeerAddress string       `json:"peerAddress"` // https://address:port
	Name        string       `json:"name,omitempty"`
}

// Wait waits until one thing is so; exactly one of the targets is set.
type Wait struct {
	Timeout        time.Duration    `json:"timeout,omitempty"` // at most 30 minutes
	Service        string           `json:"service,omitempty"`
	Address        string           `json:"address,omitempty"`
	Node           string           `json:"node,omitempty"`
	Object         *ObjectReference `json:"object,omitempty"`
	MemberCaughtUp string           `json:"memberCaughtUp,omitempty"`
	MemberVoting   string           `json:"memberVoting,omitempty"`
}

// ObjectReference names a Kubernetes object.
type ObjectReference struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// ApplyManifests applies objects and remembers them under an inventory, so
// that what is no longer among them is removed.
type ApplyManifests struct {
	Inventory string `json:"inventory"`
	Manifests []byte `json:"manifests"` // YAML or JSON, several documents allowed
	Secret    bool   `json:"secret,omitempty"`
}

// DeleteManifests deletes all objects of an inventory. Inventories are the
// plugin's own: another plugin's of the same name is another inventory.
type DeleteManifests struct {
	Inventory string `json:"inventory"`
}

// ActivatePlugin makes another plugin or version the active one. It is the
// core's own: a plugin that answers it is refused.
type ActivatePlugin struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	Authority string `json:"authority,omitempty"`
}
