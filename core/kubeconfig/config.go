// Package kubeconfig reads and writes the files in which mk's programs and people find the API server: the node's five
// kubeconfigs, a person's own ~/.kube/config, and known_tokens.csv.
//
// It guarantees that what New writes is the same for the same input, byte for byte; that Parse refuses what it does not
// understand, naming file and line; that Merge leaves everything that is not mk's as it was; and that no error contains a
// token, a key or any other value of the input. It touches no file: it works on bytes, and the caller writes them.
package kubeconfig

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// The names under which MicroK8s' kubeconfigs are known to scripts.
const (
	ClusterName = "microk8s-cluster"
	ContextName = "microk8s"
)

// DefaultPort is the API server's.
const DefaultPort = 16443

// Config is what mk understands of a kubeconfig.
type Config struct {
	Clusters       []Cluster
	Contexts       []Context
	Users          []User
	CurrentContext string
}

// Cluster is an API server and what verifies it. CAFile is reloaded by programs that run; CA is not.
type Cluster struct {
	Name          string
	Server        string
	CA            []byte // PEM
	CAFile        string
	TLSServerName string
}

// Context joins a cluster and a user.
type Context struct {
	Name      string
	Cluster   string
	User      string
	Namespace string
}

// User is a credential: a certificate with its key, in place or by path, or a token.
type User struct {
	Name      string
	Cert      []byte // PEM
	Key       []byte // PEM
	CertFile  string
	KeyFile   string
	Token     string
	TokenFile string
}

// Options are what New needs: Server, CA and User, and either Cert with Key, CertFile with KeyFile, or Token.
type Options struct {
	Server   string // the empty string means the API server of this node
	CA       []byte
	User     string
	Cert     []byte
	Key      []byte
	CertFile string // reloaded by programs that run, which Cert is not
	KeyFile  string
	Token    string
}

// New is the text of one of the five kubeconfigs.
func New(o Options) ([]byte, error) {
	if o.Server == "" {
		o.Server = ServerURL(netip.AddrFrom4([4]byte{127, 0, 0, 1}).String(), DefaultPort)
	}
	c := &Config{
		Clusters: []Cluster{{Name: ClusterName, Server: o.Server, CA: o.CA}},
		Contexts: []Context{{Name: ContextName, Cluster: ClusterName, User: o.User}},
		Users: []User{{Name: o.User, Cert: o.Cert, Key: o.Key, CertFile: o.CertFile, KeyFile: o.KeyFile,
			Token: o.Token}},
		CurrentContext: ContextName,
	}
	if len(o.CA) == 0 {
		return nil, errors.New("make kubeconfig: no certificate authority given")
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("make kubeconfig: %w", err)
	}
	return c.Marshal()
}

// ServerURL is https://host:port, with IPv6 addresses in brackets.
func ServerURL(host string, port uint16) string {
	return "https://" + net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(int(port)))
}

// Check reports every fault of a config: servers, credentials that contradict each other, names that lead nowhere.
func (c *Config) Check() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	clusters, users, contexts := map[string]bool{}, map[string]bool{}, map[string]bool{}
	once := func(kind, name string, seen map[string]bool) {
		if name == "" || seen[name] {
			add("%s %.80q: a name is needed, and each once", kind, name)
		}
		seen[name] = true
	}
	for _, cl := range c.Clusters {
		once("cluster", cl.Name, clusters)
		if err := checkServer(cl.Server); err != nil {
			add("cluster %.80q: %w", cl.Name, err)
		}
	}
	for _, u := range c.Users {
		once("user", u.Name, users)
		if err := u.check(); err != nil {
			add("user %.80q: %w", u.Name, err)
		}
	}
	for _, x := range c.Contexts {
		once("context", x.Name, contexts)
		if !clusters[x.Cluster] || !users[x.User] {
			add("context %.80q: there is no cluster %.80q or no user %.80q", x.Name, x.Cluster, x.User)
		}
	}
	if !contexts[c.CurrentContext] {
		add("current-context: there is no context %.80q", c.CurrentContext)
	}
	return errors.Join(faults...)
}

func checkServer(server string) error {
	u, err := url.Parse(server)
	// The error of url.Parse repeats its input, which may hold a password.
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return errors.New("the server is not written https://HOST:PORT")
	}
	return nil
}

func (u User) check() error {
	cert := len(u.Cert) > 0 || u.CertFile != ""
	key := len(u.Key) > 0 || u.KeyFile != ""
	token := u.Token != "" || u.TokenFile != ""
	switch {
	case cert != key:
		return errors.New("a certificate and its key belong together")
	case cert && token:
		return errors.New("a certificate or a token, not both")
	case !cert && !token:
		return errors.New("it has no certificate and no token")
	case len(u.Cert) > 0 && u.CertFile != "", len(u.Key) > 0 && u.KeyFile != "", u.Token != "" && u.TokenFile != "":
		return errors.New("a credential in place or by path, not both")
	case strings.ContainsFunc(u.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("a token has no spaces, line ends or letters outside ASCII")
	}
	return nil
}

// Current is the cluster and the user of the current context. A config that Check has passed has both.
func (c *Config) Current() (Cluster, User, error) {
	for _, x := range c.Contexts {
		if x.Name != c.CurrentContext {
			continue
		}
		for _, cl := range c.Clusters {
			for _, u := range c.Users {
				if cl.Name == x.Cluster && u.Name == x.User {
					return cl, u, nil
				}
			}
		}
	}
	return Cluster{}, User{}, fmt.Errorf("kubeconfig: context %.80q leads to no cluster and user", c.CurrentContext)
}

// Rewrite is a copy in which servers that only this machine can reach are replaced by addr, for a person who takes the
// file elsewhere. The port stays; IPv6 gets its brackets. An address that is not valid leaves everything as it is.
func Rewrite(c *Config, addr netip.Addr) *Config {
	out := *c
	out.Clusters = append([]Cluster(nil), c.Clusters...)
	if !addr.IsValid() {
		return &out
	}
	for i, cl := range out.Clusters {
		u, err := url.Parse(cl.Server)
		if err != nil || !loopback(u.Hostname()) {
			continue
		}
		host := addr.Unmap().String()
		switch {
		case u.Port() != "":
			u.Host = net.JoinHostPort(host, u.Port())
		case addr.Unmap().Is6():
			u.Host = "[" + host + "]"
		default:
			u.Host = host
		}
		out.Clusters[i].Server = u.String()
	}
	return &out
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
