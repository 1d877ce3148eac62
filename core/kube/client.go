package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"mk8s.io/mk/core/revoked"
)

// SystemNamespace holds mk's own objects: inventories, what the cluster wants, the nodes' reports.
const SystemNamespace = revoked.Namespace

// FieldManager is the name under which mk owns fields of the objects that it applies.
const FieldManager = "mk"

const (
	protobufType = "application/vnd.kubernetes.protobuf"
	jsonType     = "application/json"
)

// Options change how a client talks; the zero value works.
type Options struct {
	// Version is told to the API server as user agent mk/<version>; default "dev".
	Version string
	// Server replaces the server that the kubeconfig names, for example by an address of another control-plane node.
	Server string
	// Warn gets the warnings that the API server sends with its answers; default: they are dropped.
	Warn func(text string)
}

// Client speaks to one API server (or a proxy over several) with one identity. It is safe for concurrent use and holds
// one connection pool; Close gives it back.
type Client struct {
	base    *url.URL
	config  *rest.Config
	http    *http.Client
	typed   *apis
	dynamic dynamic.Interface
}

// ConnectFile prepares a client from a kubeconfig file; files that it names are relative to its folder. It does not dial: an
// API server that is not there is found by the first call.
func ConnectFile(path string, opts Options) (*Client, error) {
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	if err := clientcmd.ResolveLocalPaths(cfg); err != nil {
		return nil, fmt.Errorf("resolve the paths of kubeconfig %s: %w", path, err)
	}
	return connect(cfg, opts)
}

func connect(cfg *clientcmdapi.Config, opts Options) (*Client, error) {
	for name, user := range cfg.AuthInfos {
		if user.Exec != nil || user.AuthProvider != nil {
			return nil, fmt.Errorf("kubeconfig: user %q runs a program for its credentials: refused", name)
		}
	}
	config, err := clientcmd.NewDefaultClientConfig(*cfg, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("use kubeconfig: %w", err)
	}
	if opts.Server != "" {
		config.Host = opts.Server
	}
	return newClient(config, opts)
}

func newClient(config *rest.Config, opts Options) (*Client, error) {
	config.UserAgent = "mk/" + cmp.Or(opts.Version, "dev")
	config.WarningHandlerWithContext = warner{opts.Warn}
	config.ContentType = protobufType
	if config.Proxy == nil { // client-go would go by the environment's, which is for what lies outside of the cluster
		config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	config.AcceptContentTypes = protobufType + "," + jsonType
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("server %q of the kubeconfig: %w", config.Host, err)
	}
	config.QPS, config.Burst = 50, 100
	if isLoopback(base.Hostname()) {
		config.QPS, config.Burst = -1, 0
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return premature{next, base.JoinPath("readyz")} })
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to %s: %w", base, err)
	}
	typed, err := newAPIs(config, httpClient)
	if err != nil {
		return nil, err
	}
	plain := rest.CopyConfig(config)
	plain.ContentType, plain.AcceptContentTypes = jsonType, jsonType
	dyn, err := dynamic.NewForConfigAndClient(plain, httpClient)
	if err != nil {
		return nil, fmt.Errorf("prepare a client of %s: %w", base, err)
	}
	return &Client{base: base, config: config, http: httpClient, typed: typed, dynamic: dyn}, nil
}

// Server is the URL that this client speaks to.
func (c *Client) Server() string { return c.base.String() }

// Close gives idle connections back. Calls under way go on; the client may be used again.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// warner hands the server's warnings to the caller instead of to a process-wide logger.
type warner struct{ warn func(string) }

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w warner) HandleWarningHeaderWithContext(_ context.Context, code int, _ string, text string) {
	if w.warn != nil && code == 299 && text != "" {
		w.warn(text)
	}
}

// ended wraps the reason of the last failure together with the end of the context, so that callers can ask for either.
func ended(ctx context.Context, what string, last error) error {
	if last == nil || errors.Is(last, ctx.Err()) {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	return fmt.Errorf("%s: %w (last: %w)", what, ctx.Err(), last)
}
