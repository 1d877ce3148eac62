// Package revoked says whose credentials end with a node. Kubernetes has no list of revoked certificates: mk's API servers
// refuse everything to the users of a node that was removed, by a list of names that all of them follow. Whoever writes
// the list, whoever goes by it and whoever makes the certificates take from here what they must agree on.
//
// It guarantees that each certificate which mk makes for a worker names the node, so that Node finds it. It does not
// guarantee anything about what a control-plane node has besides, which holds the authorities' keys anyway, nor about users
// whom others bring in, such as tokens of service accounts: Kubernetes ends those with the pods that they are for.
package revoked

import "strings"

// The list: a ConfigMap, with a key for each name.
const (
	Namespace = "mk-system"
	Name      = "removed-nodes"
)

// What comes before the node's name.
const (
	KubeletUser  = "system:node:"
	AgentUser    = "mk:node:"
	FlanneldUser = "mk:flanneld:"
	// ProxyGroup is a group: the user of kube-proxy is the same on all nodes, since Kubernetes binds a role to it.
	ProxyGroup = "mk:proxy:"
)

// Node is the node whose program a user is; false for everybody else.
func Node(user string, groups []string) (string, bool) {
	for _, prefix := range []string{KubeletUser, AgentUser, FlanneldUser} {
		if name, ok := strings.CutPrefix(user, prefix); ok {
			return name, name != ""
		}
	}
	for _, g := range groups {
		if name, ok := strings.CutPrefix(g, ProxyGroup); ok {
			return name, name != ""
		}
	}
	return "", false
}
