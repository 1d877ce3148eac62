// Bare is a plugin made without the sdk: by itself the smallest gRPC plugin
// that go-plugin can serve, the peer of the benchmarks; with BARE set it does
// what no plugin should.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

func main() {
	handshake := goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "MK_PLUGIN", MagicCookieValue: "started-by-mk"}
	switch os.Getenv("BARE") {
	case "":
		goplugin.Serve(&goplugin.ServeConfig{HandshakeConfig: handshake, Plugins: goplugin.PluginSet{"mk": served{}}, GRPCServer: goplugin.DefaultGRPCServer})
	case "mute": // a socket, the handshake, and nobody who answers
		l := announce("grpc")
		defer l.Close()
		for { // in the kernel: without cgo the runtime ends whose goroutines all wait
			_ = syscall.Pause()
		}
	case "netrpc":
		serve(announce("netrpc"), grpc.NewServer())
	case "plain":
		serve(announce("grpc"), grpc.NewServer())
	case "gibibyte", "deaf", "printer":
		serve(announce("grpc"), grpc.NewServer(grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)})))
	}
}

func announce(protocol string) net.Listener {
	socket := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "plugin")
	l, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("1|1|unix|%s|%s|\n", socket, protocol)
	return l
}

func serve(l net.Listener, s *grpc.Server) {
	pluginv1.RegisterPluginServiceServer(s, answers{})
	fmt.Fprintln(os.Stderr, s.Serve(l))
}

// codec sends one page of memory a million times instead of an exported state.
type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if _, ok := v.(*pluginv1.ExportResponse); !ok {
		return c.CodecV2.Marshal(v)
	}
	page := mem.SliceBuffer(make([]byte, 1<<20))
	huge := make(mem.BufferSlice, 1024)
	for i := range huge {
		huge[i] = page
	}
	return huge, nil
}

type answers struct {
	pluginv1.UnimplementedPluginServiceServer
}

func (answers) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	return &pluginv1.DescribeResponse{Identity: &pluginv1.Identity{Kind: "addons", Name: "test", Version: "1.2.3"}, Contracts: []string{"mk.addons.v1"}}, nil
}

func (answers) Configure(context.Context, *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	return &pluginv1.ConfigureResponse{}, nil
}

func (answers) Health(context.Context, *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	if os.Getenv("BARE") == "printer" { // more than go-plugin's reader of standard output takes
		fmt.Println(strings.Repeat("p", 200<<10) + "\nprinted behind 200 KiB")
	}
	return &pluginv1.HealthResponse{Healthy: true}, nil
}

func (answers) Export(context.Context, *pluginv1.ExportRequest) (*pluginv1.ExportResponse, error) {
	return &pluginv1.ExportResponse{}, nil
}

type served struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (served) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterPluginServiceServer(s, answers{})
	return nil
}

func (served) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a plugin is no client")
}
