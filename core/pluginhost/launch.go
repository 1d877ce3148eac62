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

// errSlowStart is the cause of a start that took longer than it may.
var errSlowStart = errors.New("it did not finish the handshake in time")

// launch starts the process, shakes hands and introduces, all of it within the
// start timeout, or until ctx ends. It owns program.
func (h *Host) launch(ctx context.Context, p *Plugin, program *os.File) error {
	limit := startLimit(p.StartTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSlowStart)
	defer cancel()
	env := append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "MK_LOG_LEVEL=" + level(h.options.Log)}, p.Env...)
	if h.options.Answer != nil && !p.Trial {
		socket, err := h.serveAnswers(ctx, p)
		if err != nil {
			return errors.Join(err, closeFile(program))
		}
		env = append(env, host.SocketVariable+"="+socket)
	}
	p.runner = h.newRunner(p, program, env)
	p.process = goplugin.NewClient(h.clientConfig(p, limit))
	started := make(chan error, 1)
	go func() { started <- h.handshake(p) }()
	select {
	case err := <-started:
		if err != nil {
			return late(ctx, err)
		}
	case <-ctx.Done():
		p.runner.end()
		<-started // the process is gone, so go-plugin lets go at once
		return late(ctx, ctx.Err())
	}
	return late(ctx, p.introduce(ctx))
}

// late says that time was up, where it was, instead of what broke by that.
func late(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil || cause == nil:
		return err
	case errors.Is(cause, errSlowStart):
		return errSlowStart
	default:
		return fmt.Errorf("start: %w", cause)
	}
}

func startLimit(wish time.Duration) time.Duration {
	if wish <= 0 {
		return startTimeout
	}
	return min(wish, maxStartTimeout)
}

func level(l hclog.Logger) string {
	if l.IsDebug() {
		return "debug"
	}
	return "info"
}

func (h *Host) newRunner(p *Plugin, program *os.File, env []string) *processRunner {
	return &processRunner{
		path: p.Program, argv: []string{filepath.Base(p.Program)}, program: program,
		env: env, dir: p.Dir, state: p.Config.StateDir, log: p.log.plain(), begun: p.log.handshake,
		cell:    isolation{uid: uint32(max(p.UID, 0)), private: h.options.Isolate, network: len(p.Grants.Network) > 0}, //nolint:gosec // a uid
		done:    make(chan struct{}),
		drained: make(chan struct{}),
	}
}

func (h *Host) clientConfig(p *Plugin, limit time.Duration) *goplugin.ClientConfig {
	return &goplugin.ClientConfig{
		HandshakeConfig:  goplugin.HandshakeConfig{MagicCookieKey: sdk.CookieKey, MagicCookieValue: sdk.CookieValue},
		VersionedPlugins: map[int]goplugin.PluginSet{sdk.EnvelopeVersion: {sdk.PluginName: connection{}}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,                // the host's environment is the host's
		StartTimeout:     limit + time.Second, // launch's timer is the one that ends it
		// Off, so that go-plugin does not parse the plugin's log: it panics on
		// {"@message":5}. A null logger would not do, it reports no level.
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}),
		Stderr:           p.log,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: p.dir},
		GRPCDialOptions: append(client.DialOptions(p.deadline),
			grpc.WithTransportCredentials(h.credentials(p)), grpc.WithChainUnaryInterceptor(p.asked.note)),
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, sockets string) (runner.Runner, error) {
			if err := own(sockets, h.uid(p.Spec), 0o700); err != nil {
				return nil, err
			}
			p.runner.sockets = sockets
			p.runner.env = append(p.runner.env, append(cmd.Env, "HOME="+sockets, "TMPDIR="+sockets)...)
			return p.runner, nil
		},
	}
}

// deadline is the shorter of what the contract allows and the manifest wants.
func (s *Spec) deadline(method string) time.Duration {
	limit := client.Deadline(method)
	if d, ok := s.Deadlines[method[strings.LastIndexByte(method, '/')+1:]]; ok && d > 0 {
		return min(d, limit)
	}
	return limit
}

// credentials let only the plugin's own user be at the other end: a plugin
// cannot have the host speak to another's socket, or to root's.
func (h *Host) credentials(p *Plugin) credentials.TransportCredentials {
	if !h.options.Isolate {
		return peercred.New(peercred.RootOrSelf)
	}
	want := uint32(p.UID) //nolint:gosec // a uid
	return peercred.New(func(uid uint32) bool { return uid == want })
}

// handshake reads the address that the plugin prints and connects to it.
func (h *Host) handshake(p *Plugin) error {
	protocol, err := p.process.Client()
	if err != nil {
		return handshakeError(err)
	}
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
	case strings.Contains(s, "Unrecognized remote plugin message"), strings.Contains(s, "error parsing core protocol"):
		_, line, _ := strings.Cut(s, "message: ")
		line, _, _ = strings.Cut(line, "\n")
		if line == "" {
			return errors.New("it ended before the handshake")
		}
		return fmt.Errorf("it printed %.80q instead of the handshake: a plugin must print nothing before it", line)
	case strings.Contains(s, "incompatible"), strings.Contains(s, "API version"):
		return fmt.Errorf("it speaks another envelope than %d: %s", sdk.EnvelopeVersion, firstLine(s))
	case strings.Contains(s, "timeout while waiting"):
		return errSlowStart
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
	i := p.Identity
	if d.Identity.Kind != i.Kind || d.Identity.Name != i.Name || d.Identity.Version != i.Version {
		return fmt.Errorf("it says it is %.200q version %.80q: its manifest lies", d.Identity.String(), d.Identity.Version)
	}
	contract := plugin.Contract(i.Kind)
	for _, c := range d.Contracts {
		if c == contract {
			return p.configure(ctx)
		}
	}
	spoken := "no contract"
	if len(d.Contracts) > 0 {
		spoken = strings.Join(d.Contracts, ", ")
	}
	return fmt.Errorf("it speaks %.200s, this mk speaks %s: install a version of it that does", spoken, contract)
}

func (p *Plugin) configure(ctx context.Context) error {
	if err := p.Plugin().Configure(ctx, p.Config); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return nil
}
