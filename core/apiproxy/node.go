package apiproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
)

// Service is the name of the service and of its args file, which may hold
// --listen and --kubeconfig.
const Service = "apiserver-proxy"

// DefaultListen is where the API server is on every node.
const DefaultListen = "127.0.0.1:16443"

// DefaultKubeconfig is whose rights are used to follow the API servers:
// kube-proxy may read endpoints, a kubelet may not.
const DefaultKubeconfig = "proxy.config"

// Serve runs a worker's proxy until ctx ends, which is no error.
func Serve(ctx context.Context, root *node.Root, version string, log hclog.Logger) error {
	listen, kubeconfig, err := options(root)
	if err != nil {
		return err
	}
	data, err := root.ReadFile(ListFile)
	if err != nil {
		return fmt.Errorf("read the list of API servers: %w", err)
	}
	list, err := ParseList(data)
	if err != nil {
		return fmt.Errorf("%s: %w", root.Path(ListFile), err)
	}
	if len(list) == 0 {
		return fmt.Errorf("%s: %w", root.Path(ListFile), errNowhere)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for connections to the API server: %w", err)
	}
	c := &checks{kubeconfig: kubeconfig, version: version, clients: map[netip.AddrPort]*kube.Client{}}
	x := &Proxy{
		Listener: listener, Endpoints: list, Log: log, Check: c.ready,
		Keep: func(list []netip.AddrPort) error {
			c.forget(list)
			return root.WriteFile(ListFile, FormatList(list), root.Public())
		},
		Follow: func(ctx context.Context, see func([]netip.AddrPort)) error {
			client, err := kube.ConnectFile(kubeconfig, kube.Options{Version: version, Server: "https://" + listener.Addr().String()})
			if err != nil {
				return err
			}
			defer client.Close()
			return client.WatchAPIServers(ctx, see, func(err error) {
				log.Debug("the API servers cannot be followed just now", "error", err.Error())
			})
		},
	}
	return x.Run(ctx)
}

func options(root *node.Root) (listen, kubeconfig string, err error) {
	listen, kubeconfig = DefaultListen, root.Credentials(DefaultKubeconfig)
	f, err := args.Load(root.Args(Service))
	if err != nil {
		return "", "", fmt.Errorf("arguments of %s: %w", Service, err)
	}
	if v, ok := f.Get("listen"); ok {
		listen = v
	}
	if v, ok := f.Get("kubeconfig"); ok {
		kubeconfig = v
	}
	a, err := netip.ParseAddrPort(listen)
	if err != nil || !a.Addr().IsLoopback() {
		return "", "", fmt.Errorf("%s: --listen=%s is not ADDRESS:PORT of this machine alone, such as %s", root.Args(Service), listen, DefaultListen)
	}
	return listen, kubeconfig, nil
}

// checks asks API servers whether they are ready, each over a connection of
// its own that is kept.
type checks struct {
	kubeconfig, version string

	mu      sync.Mutex
	clients map[netip.AddrPort]*kube.Client
}

func (c *checks) ready(ctx context.Context, addr netip.AddrPort) error {
	client, err := c.client(addr)
	if err != nil {
		return err
	}
	err = client.Ready(ctx)
	if _, says := errors.AsType[*kube.NotReadyError](err); says {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return err
}

func (c *checks) client(addr netip.AddrPort) (*kube.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.clients[addr]; known != nil {
		return known, nil
	}
	made, err := kube.ConnectFile(c.kubeconfig, kube.Options{Version: c.version, Server: "https://" + addr.String()})
	if err != nil {
		return nil, err
	}
	c.clients[addr] = made
	return made, nil
}

// forget closes the connections to API servers that are gone.
func (c *checks) forget(keep []netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, client := range c.clients {
		if !slices.Contains(keep, addr) {
			client.Close()
			delete(c.clients, addr)
		}
	}
}
