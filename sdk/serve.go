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
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
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

// coreProtocol is go-plugin's own number, the first of the handshake.
const coreProtocol = 1

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
	l, err := listen(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
	if err != nil {
		return err
	}
	return serveOn(ctx, l, p, o, func() error {
		if _, err := fmt.Fprintf(line, "%d|%d|unix|%s|grpc|\n", coreProtocol, EnvelopeVersion, l.Addr()); err != nil {
			return fmt.Errorf("writing the handshake: %w", err)
		}
		return line.Close()
	})
}

// listen makes the socket, in the folder that the host names: one of this
// start. Other hosts of go-plugin name none.
func listen(dir string) (net.Listener, error) {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "mk-plugin"); err != nil {
			return nil, fmt.Errorf("making a folder for the socket: %w", err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(dir, "plugin"))
	if err != nil {
		return nil, fmt.Errorf("listening for the host: %w", err)
	}
	return l, nil
}

// prepareEnvironment refuses what a host may want and this envelope has not,
// and keeps children of the plugin from taking themselves for one.
func prepareEnvironment() error {
	if os.Getenv("PLUGIN_CLIENT_CERT") != "" {
		return errors.New("the host asks for AutoMTLS; this envelope is plain gRPC on a private unix socket")
	}
	return errors.Join(os.Unsetenv(handshake.CookieKey), os.Unsetenv("PLUGIN_MULTIPLEX_GRPC"))
}

// serveOn serves until the host shuts down or ctx ends, and says ready before
// the first question.
func serveOn(ctx context.Context, l net.Listener, p plugin.Plugin, o options, ready func() error) error {
	s := grpc.NewServer(append(server.Options(o.logger), grpc.Creds(peercred.New(peercred.RootOrSelf)))...)
	server.Register(s, p)
	server.RegisterEnvelope(s)
	if err := ready(); err != nil {
		return errors.Join(err, l.Close())
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served: // nil after the host's Shutdown
		if err != nil {
			return fmt.Errorf("serving: %w", err)
		}
	case <-ctx.Done():
		stopGently(s)
		<-served
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
