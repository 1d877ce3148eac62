package peer

import (
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/plugin"
)

// Routes of the core between nodes. They take POST with JSON and answer JSON,
// but PluginPath, which answers an archive to GET, ImagesPath, which takes one,
// and LogsPath, which answers a LogLine in each line.
const (
	BeginPath    = "/mk/v1/join/begin"   // reserves the token for the joiner's key and asks Admit
	SecretsPath  = "/mk/v1/join/secrets" // sealed authorities and keys, for a control-plane joiner
	SignPath     = "/mk/v1/sign"         // certificates for a node's own names
	CommitPath   = "/mk/v1/join/commit"  // the join succeeded: the token is spent
	ReleasePath  = "/mk/v1/join/release" // the join failed: everything is taken back
	LeavePath    = "/mk/v1/leave"        // a node leaves: its object, record and rights go
	DrainPath    = "/mk/v1/drain"        // a worker leaves: its pods are moved
	LookPath     = "/mk/v1/look"         // what a node has: for people on others
	NudgePath    = "/mk/v1/nudge"        // what the cluster wants is to be looked at
	StrategyPath = "/mk/v1/strategy"     // below it: the routes of the clustering plugin
	RenewPath    = "/mk/v1/renew"        // certificates for a worker whose own have ended, with a token
	PluginPath   = "/mk/v1/plugin"       // a plugin's folder, by digest
	SavePath     = "/mk/v1/save"         // take a snapshot before the caller's member goes
	RemovedPath  = "/mk/v1/removed"      // the node that is asked may have been removed: it looks
	IdentityPath = "/mk/v1/identity"     // which cluster a node is of, and how new
	ImagesPath   = "/mk/v1/images"       // takes an archive of images, from control-plane nodes
)

// LogsPath answers what a node's services have written, to control-plane nodes.
const LogsPath = "/mk/v1/logs"

// DigestHeader holds the SHA-256 of what is sent to ImagesPath, in hexadecimal.
const DigestHeader = "Mk-Sha256"

// OperationHeader names the join that a request without a body of mk's own
// belongs to.
const OperationHeader = "Mk-Operation"

// NotYet is an answer that says: ask again.
type NotYet struct {
	RetryAfter time.Duration `json:"retryAfter"`
	WaitingFor string        `json:"waitingFor"`
}

// Begin presents a joiner. The joiner's key is that of its TLS certificate.
type Begin struct {
	Operation string            `json:"operation"`
	Token     string            `json:"token"`
	NodeID    string            `json:"nodeId"`
	Name      string            `json:"name"`
	Role      string            `json:"role"`
	Address   string            `json:"address"`
	Addresses []string          `json:"addresses,omitempty"`
	AgentPort int               `json:"agentPort"`
	NoVote    bool              `json:"noVote,omitempty"` // a control-plane node without a member of the datastore
	Versions  map[string]string `json:"versions"`
	Now       time.Time         `json:"now"`
	Labels    map[string]string `json:"labels,omitempty"`
	Taints    []string          `json:"taints,omitempty"` // KEY=VALUE:EFFECT
}

// Begun is what a joiner that was admitted needs.
type Begun struct {
	NotYet      *NotYet           `json:"notYet,omitempty"`
	Reservation string            `json:"reservation,omitempty"`
	Until       time.Time         `json:"until,omitzero"`
	BoundNames  []string          `json:"boundNames,omitempty"`
	ClusterID   string            `json:"clusterId,omitempty"`
	Network     node.Network      `json:"network,omitzero"`
	Addresses   []string          `json:"addresses,omitempty"` // of those asked, what certificates may hold
	Server      plugin.Node       `json:"server,omitzero"`
	Facts       []byte            `json:"facts,omitempty"` // from Admit, for Join
	Trust       map[string]Bundle `json:"trust,omitempty"` // by authority
	APIServers  []string          `json:"apiServers,omitempty"`
	Datastore   []string          `json:"datastore,omitempty"` // where its members serve clients, for a node without one
	Agents      []string          `json:"agents,omitempty"`    // of all control-plane nodes
	Plugins     []Plugin          `json:"plugins,omitempty"`   // of a control-plane node
	Auth        string            `json:"auth,omitempty"`
	Identity    Identity          `json:"identity,omitzero"`
}

// Bundle is what verifies an authority's certificates, PEM.
type Bundle struct {
	Servers []byte `json:"servers"`
	Clients []byte `json:"clients"`
}

// Plugin is an active plugin of the cluster.
type Plugin struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Digest    string `json:"digest"`
	Authority string `json:"authority,omitempty"`
}

// Secrets asks for what control-plane nodes share.
type Secrets struct {
	Operation  string            `json:"operation"`
	Recipients map[string][]byte `json:"recipients"` // kind/name of a plugin, or "core": whom to seal to
}

// Sealed is what was sealed, by the same names.
type Sealed struct {
	Sealed map[string]plugin.Sealed `json:"sealed"`
}

// CoreSecrets are sealed for the core of a joiner.
type CoreSecrets struct {
	ServiceAccountKey []byte            `json:"serviceAccountKey"`
	Settings          map[string][]byte `json:"settings,omitempty"` // of active plugins, by kind/name
}

// CoreRecipient names the core among the recipients.
const CoreRecipient = "core"

// Sign asks for certificates of the caller's own node.
type Sign struct {
	Operation string      `json:"operation,omitempty"` // of the join; empty for a member, which has a certificate
	Node      string      `json:"node,omitempty"`      // the joiner's name, by which its record is found at once
	Requests  []SignEntry `json:"requests"`
}

// SignEntry is one certificate wanted.
type SignEntry struct {
	Profile string `json:"profile"`
	CSR     []byte `json:"csr"` // PEM
}

// Signed holds them in the same order.
type Signed struct {
	Certificates [][]byte `json:"certificates"`
}

// Renew asks for certificates of a worker whose own have all ended. The key of
// its agent, in the TLS handshake, shows who it is. Without requests it asks
// what the cluster is by now.
type Renew struct {
	Operation string      `json:"operation"`
	Token     string      `json:"token"`
	Name      string      `json:"name"`
	NodeID    string      `json:"nodeId"`
	Now       time.Time   `json:"now"`
	Requests  []SignEntry `json:"requests,omitempty"`
}

// Renewed is the answer.
type Renewed struct {
	Signed
	Trust      Bundle   `json:"trust"`
	APIServers []string `json:"apiServers"`
	Agents     []string `json:"agents"`
}

// Look says what is asked for, by the names that core/operation gives it.
type Look struct {
	What  string   `json:"what"`
	Words []string `json:"words,omitempty"`
}

// Logs says which lines of a node's logs are asked for.
type Logs struct {
	Services []string      `json:"services,omitempty"` // none means all
	Some     bool          `json:"some,omitempty"`     // what the node does not run is left out
	Since    time.Duration `json:"since,omitempty"`    // none means the last lines
	Level    string        `json:"level,omitempty"`
	Follow   bool          `json:"follow,omitempty"`
}

// LogLine is a line of a log, or why there are no more.
type LogLine struct {
	Service string    `json:"service,omitempty"`
	Time    time.Time `json:"time,omitzero"`
	Level   string    `json:"level,omitempty"`
	Text    string    `json:"text,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Nudge says which generation of what the cluster wants there is.
type Nudge struct {
	Generation int `json:"generation"`
}

// Ref names a join that is under way.
type Ref struct {
	Operation string `json:"operation"`
}

// Released answers that a join was taken back.
type Released struct {
	// Held says that the server has another join of the caller's key.
	Held bool `json:"held,omitempty"`
}

// Leave says that the caller's node leaves, or is removed.
type Leave struct {
	Node string `json:"node"`
}

// Identity says which cluster a node is of. It becomes another each time that
// the cluster is recovered or restored.
type Identity struct {
	ClusterID  string    `json:"clusterId"`
	Recoveries int       `json:"recoveries"`
	By         string    `json:"by,omitempty"` // the node that went on
	At         time.Time `json:"at,omitzero"`
	Operation  string    `json:"operation,omitempty"` // that made it
	// Of an answer: whether the node that asks has a record, where that is
	// known, and whether the one that answers serves no more.
	Known    *bool `json:"known,omitempty"`
	Outdated bool  `json:"outdated,omitempty"`
}
