package operation

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/supervisor"
	"mk8s.io/mk/core/service/systemd"
	"mk8s.io/mk/core/settings"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
)

// Options say which node and on whose behalf.
type Options struct {
	Root       string // the node's root folder
	Executable string // mk itself: its programs lie beside it, and it is the agent's
	Version    string
	Built      time.Time
	Command    []string // as typed, without secrets
	Verb       string
	User       string
	Settings   map[string]string // given by flags
	Env        func(string) string
	Progress   Progress
	Waiting    func(lock.Owner)
	// Stands is told the number of the operation that begins, and 0 when it has
	// ended; nil for nobody.
	Stands func(number int)
	Log    hclog.Logger
	Now    func() time.Time
	// Patience is how long the node's folder may take to be opened, and to be
	// closed. Zero is half a minute, which is longer than any disk that works.
	Patience time.Duration
	// Services controls the node's services; nil means what the machine has:
	// systemd, or mk's own supervisor.
	Services service.Controller
	// Dead are the parts of the folder that node.Probe found not to answer.
	// Who only looks must not touch them: see Node.Unread.
	Dead []string
	// Step is called before every change of the file system and every journal
	// record; crash tests end the process in it. Nil in production.
	Step func(op, path string)
}

// Node is one node, open for operations. Nothing is started or connected
// before it is needed; Close ends what was.
type Node struct {
	Options
	Root     *node.Root
	Record   *node.Record // nil before the first start
	Settings *settings.Settings
	Programs node.Programs
	Machine  defaults.Machine
	Dir      *pluginsdir.Dir
	Plugins  Plugins
	Issuer   *Issuer
	Engine   *change.Engine
	Journal  *Journal
	// Silent says that the folder gave no answer: there is no record, and what
	// is kept in the folder is not known. Nil where the folder was opened.
	Silent *node.SilentError

	// Peer sends a plugin's request to another node; nil while this node has
	// joined none.
	Peer func(ctx context.Context, by plugin.Identity, r host.PeerRequest) (host.PeerResponse, error)

	set      *PluginSet
	services service.Controller
	// Several says that other control-plane nodes are there before this one.
	Several bool
	// Endpoints are the datastore's, for a node that has no member of its own
	// and is about to be made.
	Endpoints []string

	barring *barring

	// LetIn are the joiners that were just let in, or certified, here.
	LetIn sync.Map

	// Settling is held by who works on the files of the datastore meanwhile.
	Settling sync.Mutex

	mu        sync.Mutex
	kube      *kube.Client
	restarted []string // services that were made to start anew
}

// ErrNoNode says that there is no node in the root folder.
var ErrNoNode = errors.New("no node was ever started here")

// wire connects what an operation uses; the record may be set later.
func (n *Node) wire() {
	n.barring = newBarring()
	owner := lock.Owner{PID: os.Getpid(), User: n.User, Verb: n.Verb, Since: n.Now()}
	n.Issuer = &Issuer{Root: n.Root, Record: n.Record, Plugins: n.Plugins, Now: n.Now, Floor: n.Built, KeyType: n.keyType(), Signer: n.signer}
	if n.Record != nil && n.Record.Role == node.Worker {
		n.Issuer.Remote = func(ctx context.Context, s peer.Sign) (*peer.Signed, error) {
			out := &peer.Signed{}
			return out, n.AskControlPlane(ctx, peer.SignPath, s, out)
		}
	}
	n.Engine = &change.Engine{
		Root: n.Root, Owner: owner, Issuer: n.Issuer, Services: &serviceChanges{n}, Objects: &objectChanges{n},
		Plugins: &pluginChanges{n}, Progress: n.detail, Waiting: n.Waiting, Step: n.Step,
	}
	n.Journal = &Journal{
		Root: n.Root, Engine: n.Engine, Owner: owner, Command: n.Command, Progress: n.Progress, Waiting: n.Waiting,
		Stands: n.Stands, Now: n.Now, NewID: node.NewID, Check: n.CheckGrants, Locked: n.locked,
	}
}

func (n *Node) detail(text string) {
	if n.Progress != nil {
		n.Progress.Detail(text)
	}
}

func (n *Node) keyType() pki.KeyType {
	v, err := n.Settings.Get("key-type")
	if err != nil {
		return pki.ECDSAP256
	}
	kt, err := pki.ParseKeyType(v.Value)
	if err != nil {
		return pki.ECDSAP256
	}
	return kt
}

func (n *Node) clusterID() string {
	if n.Record == nil {
		return ""
	}
	return n.Record.ClusterID
}

// SetRecord makes a record the node's.
func (n *Node) SetRecord(r *node.Record) {
	n.Record, n.Issuer.Record = r, r
}

// AcceptsMicroK8s reports whether MicroK8s' own clients are let in.
func (n *Node) AcceptsMicroK8s() bool {
	if n.Settings == nil {
		return false
	}
	v, err := n.Settings.Get("accept-microk8s")
	return err == nil && v.Value == "true"
}

// SettingNow is a setting as it is on disk now: an agent keeps its node open
// for a while.
func (n *Node) SettingNow(name string) (settings.Value, error) {
	set, _, err := readSettings(n.Options, n.settingsFile())
	if err != nil {
		return settings.Value{}, err
	}
	return set.Get(name)
}

// Embedded reports whether mk's own supervisor keeps the services up.
func (n *Node) Embedded() bool {
	v, err := n.Settings.Get("supervisor")
	if err != nil || v.Value == "auto" {
		return !systemd.Detect()
	}
	return v.Value == "embedded"
}

func (n *Node) controller() (service.Controller, error) {
	if n.Options.Services != nil {
		return n.Options.Services, nil
	}
	if n.Embedded() {
		return supervisor.NewClient(n.Root.RunDir()), nil
	}
	id := n.Root.ID()
	if n.Root.Dir() == node.DefaultDir {
		id = ""
	}
	return systemd.New(systemd.Options{ID: id, LogDir: n.Root.Path("var/log"), StateFile: n.Root.Path("var/services.json")})
}

// Services controls the node's services.
func (n *Node) Services() service.Controller { return n.services }

// Trial starts candidates for an install.
func (n *Node) Trial() pluginsdir.Trial { return n.set }

// Defaults are the defaults of this node. The record must be there.
func (n *Node) Defaults() defaults.Node {
	return defaults.Node{Root: n.Root, Programs: n.Programs, Record: n.Record, Machine: n.Machine, PauseImage: PauseImage, Proxy: n.proxyEnv(), Several: n.Several, Datastore: n.Endpoints}
}

// proxyEnv is the environment that the proxy settings make. What the cluster
// itself answers for is never behind a proxy.
func (n *Node) proxyEnv() []string {
	value := func(key string) string {
		v, err := n.Settings.Get("proxy." + key)
		if err != nil {
			return ""
		}
		return v.Value
	}
	var out []string
	for key, name := range map[string]string{"http": "HTTP_PROXY", "https": "HTTPS_PROXY"} {
		if v := value(key); v != "" {
			out = append(out, name+"="+v)
		}
	}
	if len(out) == 0 || n.Record == nil {
		return nil
	}
	slices.Sort(out)
	net := n.Record.Network
	own := []string{"localhost", "127.0.0.1", "::1", n.Record.Address, net.PodCIDR, net.ServiceCIDR, ".svc", "." + net.Domain}
	if no := value("no"); no != "" {
		own = append(own, no)
	}
	return append(out, "NO_PROXY="+strings.Join(own, ","))
}

// PauseImage is the image of every pod's sandbox; it comes with mk.
const PauseImage = "mk8s.io/pause:1.0.0"

// Kubeconfig is the kubeconfig that mk uses: the admin's, or on a worker,
// which has none, the node's own.
func (n *Node) Kubeconfig() string {
	if n.Record != nil && n.Record.Role == node.Worker {
		return "agent.config"
	}
	return "client.config"
}

// Kube is a client of the API server: with the admin's rights, or, on a
// worker, with those of its agent.
func (n *Node) Kube() (*kube.Client, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kube == nil {
		c, err := kube.ConnectFile(n.Root.Credentials(n.Kubeconfig()), kube.Options{Version: n.Version})
		if err != nil {
			return nil, err
		}
		n.kube = c
	}
	return n.kube, nil
}

// HostContracts are what this mk offers to plugins.
func HostContracts(version string) manifest.Host {
	h := manifest.Host{Version: version, OS: runtime.GOOS, Arch: runtime.GOARCH}
	for _, k := range plugin.Kinds() {
		h.Contracts = append(h.Contracts, plugin.Contract(k))
	}
	return h
}

// pluginFiles writes the small files of the plugins folder through the root.
type pluginFiles struct{ root *node.Root }

// WriteFile replaces a file; missing folders are made.
func (f pluginFiles) WriteFile(name string, data []byte, mode fs.FileMode) error {
	full := "plugins/" + name
	if dir := folderOf(full); dir != "" {
		if err := f.root.MkdirAll(dir, node.Perm{Mode: 0o711, UID: -1, GID: -1}); err != nil {
			return err
		}
	}
	p := node.Perm{Mode: mode, UID: -1, GID: -1}
	if mode&0o040 != 0 {
		p = f.root.Secret()
	}
	return f.root.WriteFile(full, data, p)
}

// Remove removes a file; one that is not there is no error.
func (f pluginFiles) Remove(name string) error { return f.root.RemoveAll("plugins/" + name) }

func folderOf(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[:i]
		}
	}
	return ""
}

// Facts are what questions carry of this node.
func (n *Node) Facts(_ context.Context, g plugin.Grants) (plugin.Node, error) {
	r := n.Record
	facts := plugin.Node{
		Name: r.Name, Role: string(r.Role), Address: r.Address, Addresses: r.Addresses, Hostname: hostname(),
		Versions: map[string]string{"mk": n.Version, "kubernetes": KubernetesVersion},
		Files:    map[string][]byte{},
		Cluster: plugin.Cluster{
			ID: r.ClusterID, PodCIDR: r.Network.PodCIDR, ServiceCIDR: r.Network.ServiceCIDR, DNSAddress: r.Network.DNS,
			DNSDomain: r.Network.Domain, APIPort: uint32(r.Network.APIPort), AgentPort: uint32(n.AgentPort()), //nolint:gosec // checked by the record
		},
	}
	for _, name := range g.FilesRead {
		data, err := n.readFor(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return facts, err
		}
		facts.Files[name] = data
	}
	return facts, nil
}

// KubernetesVersion is the version that cmd/kubelite is built from.
const KubernetesVersion = "v1.36.3"

func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return ""
	}
	return h
}
