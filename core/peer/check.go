package peer

import "time"

// CheckPath looks at the way between a joiner and the cluster, for whoever
// holds a good token. It changes nothing: the token is held while it looks.
const CheckPath = "/mk/v1/join/check"

// Bounds of a Check.
const (
	MaxCheckedPorts = 8
	MaxCheckedUDP   = 2
	NonceSize       = 16
)

// Check asks the server to look at a joiner: it dials back.
type Check struct {
	Operation string            `json:"operation"`
	Token     string            `json:"token"`
	Name      string            `json:"name"`
	Role      string            `json:"role"`
	Address   string            `json:"address"`
	Addresses []string          `json:"addresses,omitempty"`
	AgentPort int               `json:"agentPort"`
	Versions  map[string]string `json:"versions"`
	Labels    map[string]string `json:"labels,omitempty"`
	Taints    []string          `json:"taints,omitempty"`
	// Ports of the caller's address: who is connected to one answers Nonce.
	Ports []int `json:"ports"`
	// UDP ports of the caller's address get Nonce, alone and in a datagram as
	// large as the server's link takes.
	UDP   []int  `json:"udp,omitempty"`
	Nonce []byte `json:"nonce"`
}

// Checked is what the server found.
type Checked struct {
	Node     string            `json:"node"`
	Now      time.Time         `json:"now"`
	Versions map[string]string `json:"versions"`
	Caller   string            `json:"caller"`        // the address that the server sees
	MTU      int               `json:"mtu,omitempty"` // of the server's link to it
	UDP      []int             `json:"udp,omitempty"` // those that were sent to: the pod network's
	Closed   []Closed          `json:"closed,omitempty"`
	Refused  []ProblemText     `json:"refused,omitempty"` // what a join would be refused for
	Open     []Listener        `json:"open,omitempty"`    // where the joiner must reach the control plane
}

// Closed is a port of the caller that was not reached, and how that went.
type Closed struct {
	Port int    `json:"port"`
	Why  string `json:"why"`
}

// Listener is a node and the ports on which it answers.
type Listener struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	Ports   []int  `json:"ports"`
}
