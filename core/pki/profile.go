package pki

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/revoked"
)

// Authority names one of the three roots of a cluster. They differ because what they let a holder do differs: etcd
// accepts whoever its authority signed, and the front proxy's may impersonate anyone.
type Authority string

// The authorities.
const (
	Kubernetes Authority = "kubernetes"
	FrontProxy Authority = "front-proxy"
	Datastore  Authority = "datastore"
)

// Authorities lists all of them, in the order in which they are made and rotated.
func Authorities() []Authority { return []Authority{Kubernetes, FrontProxy, Datastore} }

// NameSource tells where a certificate's names come from. They never come from a request alone.
type NameSource string

// The sources.
const (
	NoNames   NameSource = "none"     // a client certificate has none
	NodeNames NameSource = "node"     // the node's record: its name and its addresses
	ConfNames NameSource = "csr.conf" // csr.conf.template, rendered with the node's addresses
)

// Folder tells which folder of the node keeps a profile's files.
type Folder string

// The folders, relative to the node's root.
const (
	NoFolder    Folder = ""
	CertsFolder Folder = "certs"
	BackendDir  Folder = "var/kubernetes/backend"
)

const (
	day     = 24 * time.Hour
	oneYear = 365 * day
	tenYear = 3650 * day
)

// Profile is what policy fixes about a certificate. Whoever asks chooses a profile, a node and a life up to MaxLife.
type Profile struct {
	Name       string
	Authority  Authority
	CommonName string   // "{node}" stands for the node's name; empty: the request's own, see freeSubject
	Groups     []string // the organizations, with "{node}" too: Kubernetes reads them as groups
	Server     bool     // serves TLS
	Client     bool     // authenticates as a TLS client
	Names      NameSource
	MaxLife    time.Duration
	Folder     Folder
	File       string // base name of its .crt and .key; empty where the holder keeps them itself
	Signer     string // the signerName of a CertificateSigningRequest that asks for it, or empty
}

// freeSubject tells that the request chooses its subject, within what CheckCSR forbids.
func (p Profile) freeSubject() bool { return p.CommonName == "" }

// ofNode stands for the node's name.
const ofNode = "{node}"

func perNode(s string) bool { return strings.Contains(s, ofNode) }

func named(s, node string) string { return strings.ReplaceAll(s, ofNode, node) }

// PerNode tells that the subject has the node's name in it, so the node must be named.
func (p Profile) PerNode() bool {
	return perNode(p.CommonName) || slices.ContainsFunc(p.Groups, perNode)
}

// Subject is the common name for a node.
func (p Profile) Subject(node string) string { return named(p.CommonName, node) }

// GroupsOf are the organizations for a node.
func (p Profile) GroupsOf(node string) []string {
	var out []string
	for _, g := range p.Groups {
		out = append(out, named(g, node))
	}
	return out
}

// CertFile and KeyFile are paths relative to the node's root, or empty.
func (p Profile) CertFile() string { return p.path(".crt") }

// KeyFile is the path of the private key, relative to the node's root, or empty.
func (p Profile) KeyFile() string { return p.path(".key") }

func (p Profile) path(suffix string) string {
	if p.File == "" {
		return ""
	}
	return string(p.Folder) + "/" + p.File + suffix
}

// ExtKeyUsage are the extended usages that a certificate must have, and no others.
func (p Profile) ExtKeyUsage() []x509.ExtKeyUsage {
	var out []x509.ExtKeyUsage
	if p.Server {
		out = append(out, x509.ExtKeyUsageServerAuth)
	}
	if p.Client {
		out = append(out, x509.ExtKeyUsageClientAuth)
	}
	return out
}

// KeyUsage is what a certificate for a key of this type should have. An elliptic key cannot encipher (RFC 5480); an RSA
// key does in the key exchange of old TLS versions, as a server.
func (p Profile) KeyUsage(kt KeyType) x509.KeyUsage {
	if p.Server && strings.HasPrefix(string(kt), "rsa-") {
		return x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	}
	return x509.KeyUsageDigitalSignature
}

// The profiles' names.
const (
	Server           = "server"
	FrontProxyClient = "front-proxy-client"
	Admin            = "client"
	Controller       = "controller"
	Scheduler        = "scheduler"
	Proxy            = "proxy"
	Kubelet          = "kubelet"
	APIKubeletClient = "apiserver-kubelet-client"
	NodeAgent        = "node-agent"
	Flanneld         = "flanneld"
	DatastoreMember  = "datastore"
	DatastoreClient  = "datastore-client"
	KubeletServing   = "kubelet-serving"
	KubeletClient    = "kubelet-client"
	APIClient        = "api-client"
)

// Profiles is the whole table: a fresh copy, in a fixed order.
func Profiles() []Profile {
	k, c := Kubernetes, CertsFolder
	nodes := []string{"system:nodes"}
	masters := []string{"system:masters"}
	return []Profile{
		// A server's certificate is a client's too: MicroK8s' readiness probe and kubeadm's checks use it so. Its name
		// has no rights.
		{Name: Server, Authority: k, CommonName: "kube-apiserver", Server: true, Client: true, Names: ConfNames,
			MaxLife: oneYear, Folder: c, File: "server"},
		{Name: FrontProxyClient, Authority: FrontProxy, CommonName: "front-proxy-client", Client: true, Names: NoNames,
			MaxLife: oneYear, Folder: c, File: "front-proxy-client"},
		{Name: Admin, Authority: k, CommonName: "admin", Groups: masters, Client: true, Names: NoNames,
			MaxLife: oneYear, Folder: c, File: "client"},
		{Name: Controller, Authority: k, CommonName: "system:kube-controller-manager", Client: true, Names: NoNames,
			MaxLife: oneYear, Folder: c, File: "controller"},
		{Name: Scheduler, Authority: k, CommonName: "system:kube-scheduler", Client: true, Names: NoNames,
			MaxLife: oneYear, Folder: c, File: "scheduler"},
		{Name: Proxy, Authority: k, CommonName: "system:kube-proxy", Groups: []string{revoked.ProxyGroup + ofNode}, Client: true, Names: NoNames,
			MaxLife: oneYear, Folder: c, File: "proxy"},
		{Name: Kubelet, Authority: k, CommonName: revoked.KubeletUser + ofNode, Groups: nodes, Server: true, Client: true, Names: NodeNames,
			MaxLife: oneYear, Folder: c, File: "kubelet"},
		{Name: APIKubeletClient, Authority: k, CommonName: "kube-apiserver-kubelet-client", Groups: masters, Client: true, Names: NoNames,
			MaxLife: oneYear, Folder: c, File: "apiserver-kubelet-client"},
		{Name: NodeAgent, Authority: k, CommonName: revoked.AgentUser + ofNode, Groups: []string{"mk:nodes"}, Client: true, Names: NoNames,
			MaxLife: oneYear, Folder: c, File: "node-agent"},
		// The pod network's own identity: a kubelet's may not list the other nodes. It names the node, whose status
		// alone it may change.
		{Name: Flanneld, Authority: k, CommonName: revoked.FlanneldUser + ofNode, Groups: []string{"mk:flanneld"}, Client: true, Names: NoNames,
			MaxLife: oneYear, Folder: c, File: "flanneld"},
		// One fixed common name, so that etcd can be told to take nobody else as a peer.
		{Name: DatastoreMember, Authority: Datastore, CommonName: "mk:datastore", Server: true, Client: true, Names: NodeNames,
			MaxLife: tenYear, Folder: BackendDir, File: "cluster"},
		{Name: DatastoreClient, Authority: Datastore, CommonName: "kube-apiserver-etcd-client", Client: true, Names: NoNames,
			MaxLife: oneYear, Folder: c, File: "apiserver-etcd-client"},
		{Name: KubeletServing, Authority: k, CommonName: revoked.KubeletUser + ofNode, Groups: nodes, Server: true, Names: NodeNames,
			MaxLife: oneYear, Signer: "kubernetes.io/kubelet-serving"},
		{Name: KubeletClient, Authority: k, CommonName: revoked.KubeletUser + ofNode, Groups: nodes, Client: true, Names: NoNames,
			MaxLife: oneYear, Signer: "kubernetes.io/kube-apiserver-client-kubelet"},
		{Name: APIClient, Authority: k, Client: true, Names: NoNames,
			MaxLife: oneYear, Signer: "kubernetes.io/kube-apiserver-client"},
	}
}

// Find is the profile of that name.
func Find(name string) (Profile, error) {
	all := Profiles()
	i := slices.IndexFunc(all, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		names := make([]string, 0, len(all))
		for _, p := range all {
			names = append(names, p.Name)
		}
		return Profile{}, fmt.Errorf("certificate profile %q is unknown: %s", name, strings.Join(names, ", "))
	}
	return all[i], nil
}

// ForSigner is the profile for the signerName of a CertificateSigningRequest; false where mk does not sign for it.
func ForSigner(signer string) (Profile, bool) {
	all := Profiles()
	i := slices.IndexFunc(all, func(p Profile) bool { return signer != "" && p.Signer == signer })
	if i < 0 {
		return Profile{}, false
	}
	return all[i], true
}
