package pluginhost

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"mk8s.io/mk/sdk"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

// BenchmarkColdStart starts the smallest plugin of the sdk in its cell, digest
// checked, until it is configured, and beside it the smallest gRPC plugin of
// go-plugin until its first answer. It reports both, their ratio and what is
// between them, and how long a start takes that has to hash the program: the
// first after a boot or an install.
func BenchmarkColdStart(b *testing.B) {
	r := newRig(b, withAnswers)
	s := r.program(build(b, "small"))
	bare := build(b, "bare")
	program, err := openRegular(s.Program)
	if err != nil {
		b.Fatal(err)
	}
	defer program.Close() //nolint:errcheck // only looked at
	eventually(b, 2*settled, "a program that was not built just now", func() bool { return stamp(program, time.Now()) != "" })
	var first, ours, peers time.Duration
	start := func(sum *time.Duration) {
		begun := time.Now()
		p := r.start(s)
		*sum += time.Since(begun)
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := os.RemoveAll(r.receipts().dir); err != nil {
			b.Fatal(err)
		}
		start(&first)
		start(&ours)
		begun := time.Now()
		c := startBare(b, bare)
		peers += time.Since(begun)
		c.Kill()
	}
	compareWith(b, ours, peers, time.Millisecond, "ms")
	b.ReportMetric(float64(first)/float64(b.N)/float64(time.Millisecond), "first-ms")
}

// BenchmarkCall asks a plugin in its cell and a bare gRPC server on a unix
// socket the same.
func BenchmarkCall(b *testing.B) {
	r := newRig(b)
	p := r.start(r.program(build(b, "small")))
	peer := plainServer(b)
	var ours, peers time.Duration
	for b.Loop() {
		begun := time.Now()
		if err := p.Plugin().Health(b.Context()); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(begun)
		begun = time.Now()
		if _, err := peer.Health(b.Context(), &pluginv1.HealthRequest{}); err != nil {
			b.Fatal(err)
		}
		peers += time.Since(begun)
	}
	compareWith(b, ours, peers, time.Microsecond, "us")
}

func compareWith(b *testing.B, ours, peers, unit time.Duration, name string) {
	b.Helper()
	n := float64(b.N) * float64(unit)
	b.ReportMetric(float64(ours)/n, "mk-"+name)
	b.ReportMetric(float64(peers)/n, "peer-"+name)
	b.ReportMetric(float64(ours-peers)/n, "more-"+name)
	b.ReportMetric(float64(ours)/float64(peers), "ratio")
}

// startBare starts a plugin as go-plugin's own example does, without TLS.
func startBare(b *testing.B, program string) *goplugin.Client {
	b.Helper()
	c := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: sdk.CookieKey, MagicCookieValue: sdk.CookieValue},
		Plugins:         goplugin.PluginSet{sdk.PluginName: connection{}},
		Cmd:             exec.Command(program), AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Logger: hclog.NewNullLogger(),
	})
	b.Cleanup(c.Kill)
	protocol, err := c.Client()
	if err != nil {
		b.Fatal(err)
	}
	raw, err := protocol.Dispense(sdk.PluginName)
	if err == nil {
		_, err = pluginv1.NewPluginServiceClient(raw.(*grpc.ClientConn)).Describe(b.Context(), &pluginv1.DescribeRequest{})
	}
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// plainServer is gRPC and nothing else, in another process on a unix socket.
func plainServer(b *testing.B) pluginv1.PluginServiceClient {
	b.Helper()
	dir := folder(b)
	cmd := exec.Command(build(b, "bare"))
	cmd.Env = []string{"BARE=plain", "PLUGIN_UNIX_SOCKET_DIR=" + dir}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	conn, err := grpc.NewClient("unix:"+filepath.Join(dir, "plugin"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	c := pluginv1.NewPluginServiceClient(conn)
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
	defer cancel()
	if _, err := c.Health(ctx, &pluginv1.HealthRequest{}, grpc.WaitForReady(true)); err != nil {
		b.Fatal(err)
	}
	return c
}
