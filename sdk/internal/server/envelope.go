package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// RegisterEnvelope registers what a go-plugin host asks beside the contracts:
// whether the plugin serves, and that it ends. The package that go-plugin has
// for its plugins is not used: it brings encoding/gob, net/rpc and more, which
// each start of each plugin would initialize.
func RegisterEnvelope(s *grpc.Server) {
	h := health.NewServer()
	h.SetServingStatus("plugin", healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(s, h)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "plugin.GRPCController",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Shutdown", Handler: shutdown}},
	}, s)
}

// shutdown ends the calls that run and the server. The answer may be cut off
// by that; hosts do not wait for it.
func shutdown(srv any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	if err := decode(&emptypb.Empty{}); err != nil {
		return nil, err
	}
	if s, ok := srv.(*grpc.Server); ok {
		go s.Stop()
	}
	return &emptypb.Empty{}, nil
}
