// Package defaults knows how the programs of a node are started: the argument
// and configuration files of a new node, and the services that run them.
//
// It decides nothing that a plugin decides (the datastore's arguments are the
// clustering plugin's) and it changes nothing: it answers data. What people
// have written into an args file before stays theirs, option by option.
package defaults

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"mk8s.io/mk/core/node"
)

// Node is what the defaults depend on.
type Node struct {
	Root     *node.Root
	Programs node.Programs
	Record   *node.Record
	Machine  Machine
	// PauseImage is the image that every pod's sandbox is made of.
	PauseImage string
	// Proxy is the environment by which containerd finds its proxy.
	Proxy []string
	// Several says that the node is one of several control-plane nodes, of
	// which one at a time leads.
	Several bool
	// Datastore is where the API server of a node without a member of its own
	// finds the datastore.
	Datastore []string
}

// Option is one line of an args file. Without a value it is a bare flag.
type Option struct {
	Name  string
	Value string
	Bare  bool
}

func opt(name, value string) Option { return Option{Name: name, Value: value} }

// Arguments are the options of every service that this node runs but the
// datastore's.
func (n Node) Arguments() map[string][]Option {
	out := map[string][]Option{
		"containerd":    {opt("config", n.Root.Path("args/containerd.toml"))},
		"kubelet":       n.kubelet(),
		"kube-proxy":    n.proxy(),
		"kubelite":      n.kubelite(),
		"flanneld":      n.flanneld(),
		"ctr":           {opt("address", n.ContainerdSocket()), opt("namespace", "k8s.io")},
		"cluster-agent": {opt("bind", net.JoinHostPort("0.0.0.0", strconv.Itoa(n.Record.Network.AgentPort)))},
	}
	if n.Record.Role == node.ControlPlane {
		out["kube-apiserver"] = n.apiserver()
		out["kube-controller-manager"] = n.controllerManager()
		out["kube-scheduler"] = n.scheduler()
	}
	if n.Record.Role == node.Worker {
		out[Proxy] = []Option{opt("listen", n.proxyListen()), opt("kubeconfig", n.Root.Credentials("proxy.config"))}
	}
	return out
}

// Services in whose args files Arguments has something to say, sorted.
func (n Node) Services() []string { return slices.Sorted(maps.Keys(n.Arguments())) }

func (n Node) apiserver() []Option {
	r, certs := n.Record, n.Root.Certs
	var out []Option
	if r.Auth == node.Token {
		out = append(out, opt("token-auth-file", n.Root.Credentials("known_tokens.csv")))
	}
	return append(out,
		opt("advertise-address", r.Address),
		opt("bind-address", anyAddress(r.Address)),
		opt("secure-port", strconv.Itoa(r.Network.APIPort)),
		opt("service-cluster-ip-range", r.Network.ServiceCIDR),
		opt("authorization-mode", "Node,RBAC"),
		opt("enable-admission-plugins", "NodeRestriction"),
		opt("allow-privileged", "true"),
		opt("client-ca-file", certs("client-ca.crt")),
		opt("tls-cert-file", certs("server.crt")),
		opt("tls-private-key-file", certs("server.key")),
		opt("kubelet-client-certificate", certs("apiserver-kubelet-client.crt")),
		opt("kubelet-client-key", certs("apiserver-kubelet-client.key")),
		opt("kubelet-certificate-authority", certs("ca.crt")),
		opt("kubelet-preferred-address-types", "InternalIP,Hostname,InternalDNS,ExternalDNS,ExternalIP"),
		opt("service-account-issuer", "https://kubernetes.default.svc"),
		opt("service-account-key-file", certs("serviceaccount.key")),
		opt("service-account-signing-key-file", certs("serviceaccount.key")),
		opt("requestheader-client-ca-file", certs("front-proxy-ca.crt")),
		opt("requestheader-allowed-names", "front-proxy-client"),
		opt("requestheader-username-headers", "X-Remote-User"),
		opt("requestheader-group-headers", "X-Remote-Group"),
		opt("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
		opt("proxy-client-cert-file", certs("front-proxy-client.crt")),
		opt("proxy-client-key-file", certs("front-proxy-client.key")),
		opt("etcd-servers", n.datastore()),
		opt("etcd-cafile", certs("datastore-ca.crt")),
		opt("etcd-certfile", certs("apiserver-etcd-client.crt")),
		opt("etcd-keyfile", certs("apiserver-etcd-client.key")),
		opt("profiling", "false"))
}

// datastore is this node's own member, or where others serve clients.
// OwnDatastore is where an API server finds its node's member of the datastore.
const OwnDatastore = "https://127.0.0.1:12379"

func (n Node) datastore() string {
	if n.Record.NoVote && len(n.Datastore) > 0 {
		return strings.Join(n.Datastore, ",")
	}
	return OwnDatastore
}

func (n Node) controllerManager() []Option {
	config := n.Root.Credentials("controller.config")
	return []Option{
		opt("kubeconfig", config),
		opt("authentication-kubeconfig", config),
		opt("authorization-kubeconfig", config),
		// No --cluster-signing-*: mk signs the cluster's requests through the
		// active certs plugin, and no key of an authority is on any flag.
		opt("service-account-private-key-file", n.Root.Certs("serviceaccount.key")),
		opt("root-ca-file", n.Root.Certs("ca.crt")),
		opt("use-service-account-credentials", "true"),
		opt("bind-address", "127.0.0.1"),
		opt("tls-cert-file", n.Root.Certs("server.crt")), // one of its own would end with its first year
		opt("tls-private-key-file", n.Root.Certs("server.key")),
		opt("allocate-node-cidrs", "true"),
		opt("cluster-cidr", n.Record.Network.PodCIDR),
		opt("service-cluster-ip-range", n.Record.Network.ServiceCIDR),
		opt("leader-elect", strconv.FormatBool(n.Several)),
		// With credentials of their own, controllers ask more when they start than the
		// default of 20 a second lets through: nodes had no addresses for 4 seconds.
		opt("kube-api-qps", "100"), opt("kube-api-burst", "200"), opt("profiling", "false"),
	}
}

func (n Node) scheduler() []Option {
	config := n.Root.Credentials("scheduler.config")
	return []Option{
		opt("kubeconfig", config),
		opt("authentication-kubeconfig", config),
		opt("authorization-kubeconfig", config),
		opt("bind-address", "127.0.0.1"),
		opt("tls-cert-file", n.Root.Certs("server.crt")),
		opt("tls-private-key-file", n.Root.Certs("server.key")),
		opt("leader-elect", strconv.FormatBool(n.Several)),
		opt("profiling", "false"),
	}
}

func (n Node) kubelet() []Option {
	labels := []string{"mk8s.io/cluster=true", "microk8s.io/cluster=true"}
	if n.Record.Role == node.ControlPlane {
		labels = append(labels, "node.kubernetes.io/microk8s-controlplane=microk8s-controlplane")
	}
	return []Option{
		opt("config", n.Root.Path("args/kubelet-config.yaml")),
		opt("kubeconfig", n.Root.Credentials("kubelet.config")),
		opt("hostname-override", n.Record.Name),
		opt("node-ip", n.Record.Address),
		opt("root-dir", n.Root.Path("var/lib/kubelet")),
		opt("cert-dir", n.Root.Path("var/lib/kubelet/pki")),
		opt("node-labels", strings.Join(labels, ",")),
		// The cluster's DNS is named before there is one, so that enabling it
		// restarts nothing.
		opt("cluster-dns", n.Record.Network.DNS),
		opt("cluster-domain", n.Record.Network.Domain),
	}
}

func (n Node) proxy() []Option {
	out := []Option{
		opt("kubeconfig", n.Root.Credentials("proxy.config")),
		opt("hostname-override", n.Record.Name),
		opt("cluster-cidr", n.Record.Network.PodCIDR),
		opt("healthz-bind-address", "127.0.0.1:10256"),
		opt("metrics-bind-address", "127.0.0.1:10249"),
		opt("proxy-mode", "iptables"),
	}
	if n.Machine.ConntrackFixed {
		// The machine does not let us change its table's size.
		out = append(out, opt("conntrack-max-per-core", "0"), opt("conntrack-min", "0"))
	}
	return out
}

func (n Node) kubelite() []Option {
	out := []Option{
		opt("kubelet-args-file", n.Root.Args("kubelet")),
		opt("proxy-args-file", n.Root.Args("kube-proxy")),
		opt("start-control-plane", strconv.FormatBool(n.Record.Role == node.ControlPlane)),
	}
	if n.Record.Role == node.ControlPlane {
		out = append(out,
			opt("apiserver-args-file", n.Root.Args("kube-apiserver")),
			opt("controller-manager-args-file", n.Root.Args("kube-controller-manager")),
			opt("scheduler-args-file", n.Root.Args("kube-scheduler")))
	}
	return out
}

// proxyListen is where the kubeconfigs of a node find the API server: on a
// worker, the way to all of them.
func (n Node) proxyListen() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.Record.Network.APIPort))
}

func (n Node) flanneld() []Option {
	return []Option{
		opt("kubeconfig-file", n.Root.Credentials("flanneld.config")),
		opt("node-name", n.Record.Name),
		opt("public-ip", n.Record.Address),
		opt("net-config-path", n.Root.Path("args/flannel-network-mgr-config")),
		opt("subnet-file", n.Root.RunDir("subnet.env")),
		opt("ip-masq", "true"),
		// It looks at its iptables rules by starting iptables; every 5 seconds
		// is what it does where nothing is said.
		opt("iptables-resync", "600"),
	}
}

// ContainerdSocket is where containerd listens.
func (n Node) ContainerdSocket() string { return n.Root.RunDir("containerd.sock") }

// anyAddress is every address, of both families where the node has IPv6.
func anyAddress(addr string) string {
	if a, err := netip.ParseAddr(addr); err == nil && a.Is6() {
		return "::"
	}
	return "0.0.0.0"
}

// Render is a new args file.
func Render(service string, options []Option) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Options of %s, one a line: --name=value. Yours to edit; then: mk restart\n", service)
	for _, o := range options {
		if o.Bare {
			fmt.Fprintf(&b, "--%s\n", o.Name)
			continue
		}
		fmt.Fprintf(&b, "--%s=%s\n", o.Name, o.Value)
	}
	return []byte(b.String())
}

// Folders that the services need below the root.
func Folders() []string {
	return []string{
		"args/cni-network", "args/certs.d", "var/lib", "var/lib/kubelet", "var/lib/kubelet/pki",
		"var/lib/containerd", "var/lib/cni",
	}
}

// PodLogs is where the logs of pods lie: two nodes on one machine must not
// share it.
func (n Node) PodLogs() string { return filepath.Join(n.Root.Path("var/log"), "pods") }
