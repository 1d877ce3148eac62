package kubeconfig

import (
	"fmt"
	"strings"
)

// File is one of the five kubeconfigs of a node.
type File struct {
	Name      string // in the folder credentials
	Profile   string // the certificate profile of core/pki
	TokenUser string // NAME of the user in token mode; in x509 mode it is the certificate's common name
	Login     string // the user in known_tokens.csv; "{node}" stands for the node's name
	UID       string // the uid there
	Groups    []string
}

// Files are the five, in the order in which they are written.
func Files() []File {
	return []File{
		{"client.config", "client", "admin", "admin", "admin", []string{"system:masters"}},
		{"controller.config", "controller", "controller", "system:kube-controller-manager", "controller", nil},
		{"scheduler.config", "scheduler", "scheduler", "system:kube-scheduler", "scheduler", nil},
		{"kubelet.config", "kubelet", "kubelet", "system:node:{node}", "kubelet-0", []string{"system:nodes"}},
		{"proxy.config", "proxy", "kubeproxy", "system:kube-proxy", "kube-proxy", nil},
	}
}

// LoginFor is the user of known_tokens.csv on a node.
func (f File) LoginFor(node string) string { return strings.ReplaceAll(f.Login, "{node}", node) }

// ForUser is the file of a user, by any of the names under which people know it: admin, client, kubelet, kubeproxy,
// system:kube-scheduler, …
func ForUser(user string) (File, error) {
	var names []string
	for _, f := range Files() {
		switch user {
		case f.Name, f.Profile, f.TokenUser, f.Login, f.UID:
			return f, nil
		}
		if strings.Contains(f.Login, "{node}") && strings.HasPrefix(user, strings.TrimSuffix(f.Login, "{node}")) {
			return f, nil
		}
		names = append(names, f.TokenUser)
	}
	return File{}, fmt.Errorf("there is no kubeconfig for user %.80q: %s", user, strings.Join(names, ", "))
}
