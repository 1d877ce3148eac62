package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/peercred"
	"mk8s.io/mk/sdk/plugin"
)

const (
	startTimeout    = 10 * time.Second
	maxStartTimeout = 60 * time.Second
	killTimeout     = 3 * time.Second
)

// Spec is everything that is known of a plugin before it is started.
type Spec struct {
	Identity plugin.Identity
	Dir      string // its folder in the store, root-owned
	Program  string // path of its program, below Dir
	Digest   string // of the program: sha256:…
	UID      int
	Grants   plugin.Grants
	Config   plugin.Configuration
	// StartTimeout and Deadlines come from the manifest; zero means the
	// host's own, and the host's own are the longest.
	StartTimeout time.Duration
	Env          []string
}

// Options are what a Host needs to start plugins.
type Options struct {
	// RunDir is where sockets lie: short, and only root may write there.
	RunDir string
	Log    hclog.Logger
	// Answer gives the host that a plugin may call back; nil for none.
	Answer func(Spec) host.Host
	// Isolate gives each plugin its own user and namespaces. Only authors'
	// tools leave it out, and say so.
	Isolate bool
}

// Host starts plugins. It owns those that it started until Close.
type Host struct {
	options Options

	mu      sync.Mutex
	running map[*Plugin]struct{}
	closed  bool
}

// New makes a host. It starts nothing.
func New(o Options) *Host {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	return &Host{options: o, running: map[*Plugin]struct{}{}}
}

// Plugin is one running process. It is single-use: once its process is gone
// every question fails, and a new one must be started.
type Plugin struct {
	Spec
	*client.Client
	gone     chan struct{}
	log      *logger
	process  *goplugin.Client
	runner   *runnerRef
	dir      string
	answers  *grpc.Server
	stopOnce sync.Once
	stop     error
}

// runnerRef holds the runner that go-plugin makes us make.
type runnerRef struct{ r *processRunner }

// Start starts a plugin in its cell, checks that it is what its manifest says,
// and configures it. On an error nothing of it is left.
func (h *Host) Start(ctx context.Context, s Spec) (*Plugin, error) {
	p, err := h.start(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", s.Identity, s.Identity.Version, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errors.Join(errors.New("the plugin host is closed"), p.Close())
	}
	h.running[p] = struct{}{}
	return p, nil
}

func (h *Host) start(ctx context.Context, s Spec) (*Plugin, error) {
	program, err := h.program(s)
	if err != nil {
		return nil, err
	}
	dir, err := runFolder(h.options.RunDir, h.uid(s))
	if err != nil {
		return nil, errors.Join(err, closeFile(program))
	}
	p := &Plugin{Spec: s, dir: dir, gone: make(chan struct{}), runner: &runnerRef{},
		log: &logger{name: s.Identity.String(), out: h.options.Log.Named(s.Identity.String())}}
	if err := h.launch(ctx, p, program); err != nil {
		return nil, errors.Join(p.explain(err), p.Close())
	}
	return p, nil
}

func (h *Host) uid(s Spec) int {
	if h.options.Isolate {
		return s.UID
	}
	return -1
}

// program is a sealed copy of the program that was installed. A script runs
// from the store, which nobody but root can change.
func (h *Host) program(s Spec) (*os.File, error) {
	script, err := isScript(s.Program)
	if err != nil {
		return nil, err
	}
	if !script {
		return sealedCopy(s.Program, s.Digest)
	}
	if err := strict(s.Program); err != nil {
		return nil, err
	}
	f, err := sealedCopy(s.Program, s.Digest)
	return nil, errors.Join(err, closeFile(f))
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// launch does the handshake within the start timeout, or until ctx ends.
func (h *Host) launch(ctx context.Context, p *Plugin, program *os.File) error {
	env := append([]string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + p.dir, "TMPDIR=" + p.dir,
		"MK_LOG_LEVEL=" + level(h.options.Log),
	}, p.Env...)
	if h.options.Answer != nil {
		socket, err := h.serveAnswers(p)
		if err != nil {
			return errors.Join(err, closeFile(program))
		}
		env = append(env, host.SocketVariable+"="+socket)
	}
	p.process = goplugin.NewClient(h.clientConfig(p, program, env))
	started := make(chan error, 1)
	go func() { started <- h.handshake(p) }()
	select {
	case err := <-started:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		p.kill()
		<-started
		return fmt.Errorf("start: %w", ctx.Err())
	}
	p.log.handshakeDone()
	return p.introduce(ctx)
}

func level(l hclog.Logger) string {
	if l.IsDebug() {
		return "debug"
	}
	return "info"
}

func (h *Host) clientConfig(p *Plugin, program *os.File, env []string) *goplugin.ClientConfig {
	timeout := startTimeout
	if p.StartTimeout > 0 {
		timeout = min(p.StartTimeout, maxStartTimeout)
	}
	return &goplugin.ClientConfig{
		HandshakeConfig:  goplugin.HandshakeConfig{MagicCookieKey: sdk.CookieKey, MagicCookieValue: sdk.CookieValue},
		VersionedPlugins: map[int]goplugin.PluginSet{sdk.EnvelopeVersion: {sdk.PluginName: connection{}}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true, // the host's environment is the host's
		StartTimeout:     timeout,
		// Off, so that go-plugin does not parse the plugin's log: it panics on
		// {"@message":5}. A null logger would not do, it reports no level.
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}),
		Stderr:           p.log,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: p.dir},
		GRPCDialOptions:  append(client.DialOptions(nil), grpc.WithTransportCredentials(h.credentials(p))),
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, sockets string) (runner.Runner, error) {
			if err := own(sockets, h.uid(p.Spec), 0o700); err != nil {
				return nil, err
			}
			p.runner.r = &processRunner{
				path: p.Program, argv: []string{filepath.Base(p.Program)}, program: program,
				env: append(env, cmd.Env...), dir: p.Dir, sockets: sockets,
				cell: isolation{uid: uint32(max(p.UID, 0)), private: h.options.Isolate, network: len(p.Grants.Network) > 0}, //nolint:gosec // a uid
			}
			return p.runner.r, nil
		},
	}
}

func (h *Host) credentials(p *Plugin) credentials.TransportCredentials {
	if h.options.Isolate {
		return peercred.New(peercred.Only(uint32(p.UID))) //nolint:gosec // a uid
	}
	return peercred.New(peercred.RootOrSelf)
}

// handshake reads the address that the plugin prints and connects to it.
func (h *Host) handshake(p *Plugin) error {
	protocol, err := p.process.Client()
	if err != nil {
		return handshakeError(err)
	}
	go func() {
		<-p.runner.r.done
		close(p.gone)
	}()
	raw, err := protocol.Dispense(sdk.PluginName)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	conn, ok := raw.(*grpc.ClientConn)
	if !ok {
		return errors.New("connect: no connection")
	}
	p.Client = client.New(conn)
	return nil
}

// handshakeError says in the user's words what go-plugin found.
func handshakeError(err error) error {
	s := err.Error()
	switch {
	case strings.Contains(s, "Unrecognized remote plugin message"):
		_, line, _ := strings.Cut(s, "message: ")
		line, _, _ = strings.Cut(line, "\n")
		if line == "" {
			return errors.New("it ended before the handshake")
		}
		return fmt.Errorf("it printed %.80q instead of the handshake: a plugin must print nothing before it", line)
	case strings.Contains(s, "incompatible"), strings.Contains(s, "API version"):
		return fmt.Errorf("it speaks another envelope than %d: %s", sdk.EnvelopeVersion, firstLine(s))
	case strings.Contains(s, "timeout while waiting"):
		return errors.New("it did not finish the handshake in time")
	case strings.Contains(s, "exited before"):
		return errors.New("it ended before the handshake")
	}
	return err
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// connection makes go-plugin hand out its connection.
type connection struct {
	goplugin.NetRPCUnsupportedPlugin
}

var _ goplugin.GRPCPlugin = connection{}

// GRPCServer is never asked of a host.
func (connection) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("a host serves no plugin")
}

// GRPCClient hands out the connection.
func (connection) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// introduce checks that the plugin is what it was installed as, and hands over
// its configuration.
func (p *Plugin) introduce(ctx context.Context) error {
	d, err := p.Plugin().Describe(ctx)
	if err != nil {
		return fmt.Errorf("describe: %w", err)
	}
	i := p.Spec.Identity
	if d.Identity.Kind != i.Kind || d.Identity.Name != i.Name || d.Identity.Version != i.Version {
		return fmt.Errorf("it says it is %s %s: its manifest lies", d.Identity, d.Identity.Version)
	}
	contract := plugin.Contract(i.Kind)
	for _, c := range d.Contracts {
		if c == contract {
			return p.Plugin().Configure(ctx, p.Config)
		}
	}
	return fmt.Errorf("it speaks %s, this mk speaks %s", strings.Join(d.Contracts, ", "), contract)
}

// Close ends all plugins, at once, within killTimeout.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	running := make([]*Plugin, 0, len(h.running))
	for p := range h.running {
		running = append(running, p)
	}
	h.running = map[*Plugin]struct{}{}
	h.mu.Unlock()
	errs := make([]error, len(running))
	var wg sync.WaitGroup
	for i, p := range running {
		wg.Go(func() { errs[i] = p.Close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
