// Package sdk is what the main function of a plugin needs: Serve. A plugin is
// a Go value that implements one of the interfaces certs.Plugin,
// tokens.Plugin, clustering.Plugin or addons.Plugin; Serve puts it on the wire.
//
// Serve guarantees that a panic in a handler ends the call and not the
// process, that no call runs without a deadline, that only root and the user
// of the process may ask, and that what the plugin prints does not disturb the
// handshake: file descriptor 1 is standard error from the moment on that this
// package is initialized. A package that prints while it is initialized and
// whose import path sorts before this one's dependencies can still break the
// handshake; importing mk8s.io/mk/sdk there, blank if need be, makes it print
// later.
package sdk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"mk8s.io/mk/sdk/internal/handshake"
	"mk8s.io/mk/sdk/internal/server"
	"mk8s.io/mk/sdk/peercred"
	"mk8s.io/mk/sdk/plugin"
)

// The envelope: what go-plugin's handshake compares. It says nothing about
// contracts.
const (
	EnvelopeVersion = 1
	PluginName      = "mk"
	CookieKey       = handshake.CookieKey
	CookieValue     = handshake.CookieValue
)

const (
	stopGrace    = 2 * time.Second
	describeTime = 5 * time.Second
)

// Option changes how Serve serves.
type Option func(*options)

type options struct {
	logger hclog.Logger
	about  About
}

// About is what a manifest says that Describe does not.
type About struct {
	Description string // one line for people
	Homepage    string
	RequiresMK  string // a semver constraint: ">=1.0"
}

// WithLogger replaces Logger() for what the sdk itself logs.
func WithLogger(l hclog.Logger) Option { return func(o *options) { o.logger = l } }

// WithAbout adds to the help text and the manifest.
func WithAbout(a About) Option { return func(o *options) { o.about = a } }

// Serve runs a plugin until the host ends it, and ends the process: 0 after an
// orderly end, 1 when it could not serve. Call it last in main. Run by hand it
// prints what the program is; with --manifest it prints plugin.yaml.
func Serve(p plugin.Plugin, opts ...Option) {
	o := options{logger: Logger()}
	for _, opt := range opts {
		opt(&o)
	}
	// The one context of this process: main calls nothing else.
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	if !handshake.Hosted() {
		code := byHand(ctx, p, o.about, os.Args[1:], os.Stdout, os.Stderr)
		cancel()
		os.Exit(code)
	}
	signal.Ignore(os.Interrupt) // Ctrl-C goes to the whole terminal; the host decides
	err := serve(ctx, p, o)
	cancel()
	if err != nil {
		o.logger.Error("cannot serve", "error", err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(ctx context.Context, p plugin.Plugin, o options) error {
	line, err := handshake.Output()
	if err != nil {
		return fmt.Errorf("keeping standard output for the handshake: %w", err)
	}
	if err := fits(ctx, p); err != nil {
		return err
	}
	if err := prepareEnvironment(); err != nil {
		return err
	}
	return serveUntil(ctx, p, o, func(c *goplugin.ReattachConfig) error {
		if _, err := fmt.Fprintf(line, "%d|%d|%s|%s|grpc|\n", goplugin.CoreProtocolVersion, c.ProtocolVersion,
			c.Addr.Network(), c.Addr.String()); err != nil {
			return fmt.Errorf("writing the handshake: %w", err)
		}
		return line.Close()
	})
}

// prepareEnvironment refuses what a host may want and this envelope has not,
// and keeps children of the plugin from taking themselves for one.
func prepareEnvironment() error {
	if os.Getenv("PLUGIN_CLIENT_CERT") != "" {
		return errors.New("the host asks for AutoMTLS; this envelope is plain gRPC on a private unix socket")
	}
	return errors.Join(os.Unsetenv(handshake.CookieKey), os.Unsetenv("PLUGIN_MULTIPLEX_GRPC"))
}

// serveUntil runs go-plugin's server without its hold on the process: it hands
// out the address instead of printing it, and leaves os.Stdout, os.Stderr and
// signals alone.
func serveUntil(ctx context.Context, p plugin.Plugin, o options, ready func(*goplugin.ReattachConfig) error) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	served := make(chan *grpc.Server, 1)
	address := make(chan *goplugin.ReattachConfig, 1)
	closed := make(chan struct{})
	go goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  goplugin.HandshakeConfig{MagicCookieKey: CookieKey, MagicCookieValue: CookieValue},
		VersionedPlugins: map[int]goplugin.PluginSet{EnvelopeVersion: {PluginName: &carrier{p: p}}},
		GRPCServer: func(more []grpc.ServerOption) *grpc.Server {
			all := append(server.Options(o.logger), grpc.Creds(peercred.New(peercred.RootOrSelf)))
			s := grpc.NewServer(append(all, more...)...)
			served <- s
			return s
		},
		Logger: o.logger.Named("go-plugin"),
		Test:   &goplugin.ServeTestConfig{Context: running, ReattachConfigCh: address, CloseCh: closed},
	})
	select {
	case a := <-address:
		if err := ready(a); err != nil {
			stop()
			<-closed
			return err
		}
	case <-closed:
		return errors.New("the server did not start; the reason is logged above")
	}
	select {
	case <-closed: // the host's Shutdown
	case <-ctx.Done():
		stopGently(<-served)
		stop()
		<-closed
	}
	return nil
}

// stopGently lets running calls end, for a while.
func stopGently(s *grpc.Server) {
	ended := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(stopGrace):
		s.Stop()
	}
}

// carrier is what go-plugin knows of a plugin.
type carrier struct {
	goplugin.NetRPCUnsupportedPlugin
	p plugin.Plugin
}

func (c *carrier) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	server.Register(s, c.p)
	return nil
}

func (c *carrier) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a plugin is no client")
}

// fits tells an author early that the value is not what it says it is.
func fits(ctx context.Context, p plugin.Plugin) error {
	d, err := describe(ctx, p)
	if err != nil {
		return err
	}
	kinds := server.Kinds(p)
	if !slices.Contains(kinds, d.Identity.Kind) {
		return fmt.Errorf("%s says that its kind is %q, but %T implements %v", d.Identity, d.Identity.Kind, p, kinds)
	}
	return nil
}

func describe(ctx context.Context, p plugin.Plugin) (plugin.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, describeTime)
	defer cancel()
	d, err := p.Describe(ctx)
	if err != nil {
		return d, fmt.Errorf("asking the plugin what it is: %w", err)
	}
	return d, nil
}
