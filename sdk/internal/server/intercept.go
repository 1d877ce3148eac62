package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"runtime/debug"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"mk8s.io/mk/sdk/internal/verbs"
	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/plugin"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

// MaxMessage is how much one message may hold.
const MaxMessage = 16 << 20

// Options are those that every server of a plugin has: bounded messages,
// handlers that may panic, and no call without a deadline.
func Options(log hclog.Logger) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.StaticStreamWindowSize(wire.Window), grpc.StaticConnWindowSize(wire.Window),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.ChainUnaryInterceptor(withLogger(log), capped(log), recovered(log)),
	}
}

// called is a request that names its operation.
type called interface{ GetCall() *pluginv1.Call }

// withLogger puts a logger that names question and operation into the context.
func withLogger(log hclog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		l := log.With("question", verbs.Name(info.FullMethod))
		if c, ok := req.(called); ok {
			if id := c.GetCall().GetOperationId(); id != "" {
				l = l.With("operation", id)
			}
		}
		return next(hclog.WithContext(ctx, l), req)
	}
}

// capped gives a call without a deadline the verb's, and says so.
func capped(log hclog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if _, ok := ctx.Deadline(); ok || !verbs.Ours(info.FullMethod) {
			return next(ctx, req)
		}
		limit := verbs.Deadline(info.FullMethod)
		log.Warn("call without a deadline", "question", verbs.Name(info.FullMethod), "limit", limit.String())
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return next(ctx, req)
	}
}

// recovered turns a panic of a handler into an error; the stack is in the log,
// under an id that the error names.
func recovered(log hclog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			id := stackID()
			verb := verbs.Name(info.FullMethod)
			log.Error("panic in a handler", "question", verb, "stack_id", id, "cause", cause, "stack", string(debug.Stack()))
			resp, err = nil, wire.Status(plugin.Errorf(plugin.Internal, "%s panicked; the plugin's log has the stack under %s", verb, id))
		}()
		return next(ctx, req)
	}
}

func stackID() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}
