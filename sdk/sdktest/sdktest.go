// Package sdktest runs a plugin in a test in three ways that answer alike: its
// Go value as it is, over gRPC in memory, and as a process started through
// go-plugin. It isolates nothing; the node's plugin host does.
package sdktest

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/internal/server"
	"mk8s.io/mk/sdk/launch"
	"mk8s.io/mk/sdk/plugin"
)

const bufferSize = 1 << 20

// Configure hands settings and a state folder of the test to a plugin, as the
// host does after every start. Settings may be nil.
func Configure(t testing.TB, p plugin.Plugin, settings []byte) string {
	t.Helper()
	dir := t.TempDir()
	if settings == nil {
		settings = []byte("{}")
	}
	c := plugin.Configuration{Settings: settings, StateDir: dir, ClusterID: "test-cluster"}
	if err := p.Configure(t.Context(), c); err != nil {
		t.Fatalf("configuring the plugin: %v", err)
	}
	return dir
}

// InMemory serves a plugin's value over gRPC without a socket, until the test
// ends.
func InMemory(t testing.TB, p plugin.Plugin) *client.Client {
	t.Helper()
	return client.New(InMemoryConn(t, p))
}

// InMemoryConn is the connection of InMemory, for tests that speak gRPC.
func InMemoryConn(t testing.TB, p plugin.Plugin) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(bufferSize)
	s := grpc.NewServer(server.Options(hclog.NewNullLogger())...)
	server.Register(s, p)
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	opts := append(client.DialOptions(nil), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:///memory", opts...)
	if err != nil {
		t.Fatalf("connecting to the plugin: %v", err)
	}
	t.Cleanup(func() {
		err := conn.Close()
		s.Stop()
		if err := errors.Join(err, <-served); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("ending the plugin: %v", err)
		}
	})
	return conn
}

// Start runs a plugin's program as the caller, without a node, until the test
// ends. What it logs is in Log.
func Start(t testing.TB, program string, args ...string) *launch.Process {
	t.Helper()
	p, err := launch.Start(program, args...)
	if err != nil {
		t.Fatalf("starting %s: %v", program, err)
	}
	t.Cleanup(p.Stop)
	return p
}

// Build compiles a plugin's main package for the test and answers the program.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "plugin")
	b, err := exec.CommandContext(t.Context(), "go", "build", "-o", out, pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, b)
	}
	return out
}

// Call is a call of a new operation, without a step.
func Call() plugin.Call { return plugin.Call{OperationID: "test-" + rand.Text()} }

// Node is a control-plane node with plausible facts.
func Node() plugin.Node {
	return plugin.Node{Name: "node-1", Role: plugin.RoleControlPlane, Address: "10.0.0.1", Addresses: []string{"10.0.0.1"},
		Hostname: "node-1", Versions: map[string]string{"kubernetes": "1.36.3"},
		Cluster: plugin.Cluster{ID: "test-cluster", PodCIDR: "10.1.0.0/16", ServiceCIDR: "10.152.183.0/24",
			DNSAddress: "10.152.183.10", DNSDomain: "cluster.local", APIPort: 16443, AgentPort: 25000}}
}
