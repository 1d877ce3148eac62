// Package launch starts a plugin's program through go-plugin as the user who
// calls, for authors' tools and tests: no node, no isolation, no digest. The
// node's plugin host has all of these and does not use this package.
package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/client"
)

const startTimeout = 20 * time.Second

// Process is a plugin that runs as a process of its own.
type Process struct {
	*client.Client
	Conn *grpc.ClientConn

	plugin *goplugin.Client
	cmd    *exec.Cmd
	stderr *buffer
	dir    string
}

// Start runs a plugin's program; the caller stops it. On an error nothing is
// left running. The program gets none of the caller's environment but PATH,
// and the variables that the protocol names.
func Start(program string, args ...string) (*Process, error) {
	dir, err := os.MkdirTemp("", "mk-plugin")
	if err != nil {
		return nil, fmt.Errorf("making the plugin's folder: %w", err)
	}
	p, err := start(dir, program, args)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

func start(dir, program string, args []string) (*Process, error) {
	log := &buffer{}
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "MK_LOG_LEVEL=debug",
		goplugin.EnvUnixSocketDir + "=" + dir, "HOME=" + dir, "TMPDIR=" + dir}
	c := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: goplugin.HandshakeConfig{ProtocolVersion: sdk.EnvelopeVersion,
			MagicCookieKey: sdk.CookieKey, MagicCookieValue: sdk.CookieValue},
		VersionedPlugins: map[int]goplugin.PluginSet{sdk.EnvelopeVersion: {sdk.PluginName: connector{}}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Cmd:              cmd, SkipHostEnv: true, StartTimeout: startTimeout,
		Logger: hclog.NewNullLogger(), Stderr: log,
		GRPCDialOptions: client.DialOptions(nil),
	})
	rpc, err := c.Client()
	if err != nil {
		c.Kill()
		return nil, fmt.Errorf("%w; it logged: %s", err, log)
	}
	raw, err := rpc.Dispense(sdk.PluginName)
	if err != nil {
		c.Kill()
		return nil, err
	}
	conn, ok := raw.(*grpc.ClientConn)
	if !ok {
		c.Kill()
		return nil, errors.New("the plugin does not speak gRPC")
	}
	return &Process{Client: client.New(conn), Conn: conn, plugin: c, cmd: cmd, stderr: log, dir: dir}, nil
}

// Log is what the process wrote to its standard error so far.
func (p *Process) Log() string { return p.stderr.String() }

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Exited reports whether the process has ended.
func (p *Process) Exited() bool { return p.plugin.Exited() }

// Stop ends the process as the host does.
func (p *Process) Stop() {
	p.plugin.Kill()
	_ = os.RemoveAll(p.dir) // what is left of it is in the folder for such
}

// connector hands out go-plugin's connection.
type connector struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (connector) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("a host serves nothing here")
}

func (connector) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// buffer keeps the last bytes written; safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  []byte
}

const bufferMax = 4 << 20

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b = append(b.b, p...)
	if extra := len(b.b) - bufferMax; extra > 0 {
		b.b = b.b[extra:]
	}
	return len(p), nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.b)
}
