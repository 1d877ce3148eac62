package defaults

import "mk8s.io/mk/core/node"

// Who may speak to a port.
const (
	FromClients      = "whoever talks to the cluster" // nodes and pods among them
	FromJoiners      = "all nodes, and who joins"
	FromNodes        = "all nodes"
	FromControlPlane = "control-plane nodes"           // their API servers, and their datastore
	FromPods         = "control-plane nodes, and pods" // those that measure
	FromLoopback     = "loopback"
)

// Port is one on which a node listens.
type Port struct {
	Number   int    `json:"port"`
	Protocol string `json:"protocol"` // tcp or udp
	Service  string `json:"service"`
	From     string `json:"from"`
}

// Ports are those on which a node of a role listens: what a firewall must let
// through, and those on loopback, which nobody else must have. agent is the
// port of its agent.
func Ports(role node.Role, n node.Network, agent int) []Port {
	kubelet := Port{10250, "tcp", "the kubelet", FromPods}
	out := []Port{{agent, "tcp", "the agent", FromNodes}, kubelet}
	if role == node.ControlPlane {
		out = []Port{{n.APIPort, "tcp", "the API server", FromClients}, {agent, "tcp", "the agent", FromJoiners}, kubelet}
		out = append(out,
			Port{2380, "tcp", "the datastore's peers", FromControlPlane}, Port{12379, "tcp", "the datastore", FromControlPlane})
	}
	for _, number := range PodPorts(n.CNI) {
		out = append(out, Port{number, "udp", "the pod network", FromNodes})
	}
	own := []Port{{10248, "tcp", "the kubelet", FromLoopback}, {10249, "tcp", "kube-proxy", FromLoopback}, {10256, "tcp", "kube-proxy", FromLoopback}}
	if role == node.ControlPlane {
		return append(append(out, Port{2381, "tcp", "the datastore's metrics", FromLoopback}), append(own,
			Port{10257, "tcp", "the controller manager", FromLoopback}, Port{10259, "tcp", "the scheduler", FromLoopback})...)
	}
	return append(append(out, Port{n.APIPort, "tcp", "the proxy of API servers", FromLoopback}), own...)
}

// DatastorePorts are those of a member of the datastore: for its peers, and for
// clients.
func DatastorePorts() []int { return []int{2380, 12379} }

// PodPorts are the UDP ports through which pods of other nodes are reached.
func PodPorts(cni string) []int {
	switch cni {
	case "host-gw":
		return nil // routes, no tunnel
	case "wireguard":
		return []int{51820, 51821}
	}
	return []int{8472}
}
