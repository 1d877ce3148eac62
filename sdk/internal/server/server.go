// Package server puts a plugin's Go value on the wire: every interface of the
// contracts that it implements becomes a gRPC service. What it does not
// implement answers with the reason UNSUPPORTED.
package server

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/plugin"
	addonsv1 "mk8s.io/mk/sdk/proto/mk/addons/v1"
	certsv1 "mk8s.io/mk/sdk/proto/mk/certs/v1"
	clusteringv1 "mk8s.io/mk/sdk/proto/mk/clustering/v1"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
	tokensv1 "mk8s.io/mk/sdk/proto/mk/tokens/v1"
	"mk8s.io/mk/sdk/tokens"
)

// Kinds names the kinds that a value implements.
func Kinds(p plugin.Plugin) []string {
	var kinds []string
	if _, ok := p.(certs.Plugin); ok {
		kinds = append(kinds, plugin.KindCerts)
	}
	if _, ok := p.(clustering.Plugin); ok {
		kinds = append(kinds, plugin.KindClustering)
	}
	if _, ok := p.(tokens.Plugin); ok {
		kinds = append(kinds, plugin.KindTokens)
	}
	if _, ok := p.(addons.Plugin); ok {
		kinds = append(kinds, plugin.KindAddons)
	}
	return kinds
}

// Register registers all services that a value implements.
func Register(s grpc.ServiceRegistrar, p plugin.Plugin) {
	pluginv1.RegisterPluginServiceServer(s, &base{p: p})
	if c, ok := p.(certs.Plugin); ok {
		certsv1.RegisterCertsServiceServer(s, &certsServer{p: c})
	}
	if t, ok := p.(tokens.Plugin); ok {
		tokensv1.RegisterTokensServiceServer(s, &tokensServer{p: t})
	}
	if c, ok := p.(clustering.Plugin); ok {
		clusteringv1.RegisterClusteringServiceServer(s, &clusteringServer{p: c})
	}
	if a, ok := p.(addons.Plugin); ok {
		addonsv1.RegisterAddonsServiceServer(s, &addonsServer{p: a})
	}
}

// unsupported answers for an optional interface that is not there.
func unsupported(verb string) error {
	return wire.Status(plugin.Errorf(plugin.Unsupported, "%s is not something this plugin can do", verb))
}

// refused answers a request that breaks the contract.
func refused(verb string, err error) error {
	return wire.Status(plugin.Errorf(plugin.BadArgument, "%s: %v", verb, err))
}

// misanswered tells an author that his answer cannot be sent.
func misanswered(verb string, err error) error {
	return wire.Status(plugin.Errorf(plugin.Internal, "the plugin's answer to %s cannot be sent: %v", verb, err))
}

type base struct {
	pluginv1.UnimplementedPluginServiceServer
	p plugin.Plugin
}

func (b *base) Describe(ctx context.Context, _ *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	d, err := b.p.Describe(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	return wire.FromDescription(d), nil
}

func (b *base) Configure(ctx context.Context, m *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	err := b.p.Configure(ctx, plugin.Configuration{Settings: m.GetSettings(), StateDir: m.GetStateDir(), ClusterID: m.GetClusterId()})
	return &pluginv1.ConfigureResponse{}, wire.Status(err)
}

// Health answers "not healthy" as an answer: the call itself succeeded. Only a
// call that ran out of time is an error.
func (b *base) Health(ctx context.Context, _ *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	err := b.p.Health(ctx)
	if err == nil {
		return &pluginv1.HealthResponse{Healthy: true}, nil
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil, wire.Status(err)
	}
	return &pluginv1.HealthResponse{Message: err.Error()}, nil
}

func (b *base) Forget(ctx context.Context, m *pluginv1.ForgetRequest) (*pluginv1.ForgetResponse, error) {
	return &pluginv1.ForgetResponse{}, wire.Status(b.p.Forget(ctx, wire.ToCall(m.GetCall())))
}

func (b *base) PrepareImport(ctx context.Context, m *pluginv1.PrepareImportRequest) (*pluginv1.PrepareImportResponse, error) {
	e, ok := b.p.(plugin.Exporter)
	if !ok {
		return nil, unsupported("PrepareImport")
	}
	key, err := e.PrepareImport(ctx, wire.ToCall(m.GetCall()))
	return &pluginv1.PrepareImportResponse{Recipient: key}, wire.Status(err)
}

func (b *base) Export(ctx context.Context, m *pluginv1.ExportRequest) (*pluginv1.ExportResponse, error) {
	e, ok := b.p.(plugin.Exporter)
	if !ok {
		return nil, unsupported("Export")
	}
	s, err := e.Export(ctx, wire.ToCall(m.GetCall()), m.GetRecipient(), m.GetBinding())
	return &pluginv1.ExportResponse{Sealed: s.Data, Format: s.Format}, wire.Status(err)
}

func (b *base) Import(ctx context.Context, m *pluginv1.ImportRequest) (*pluginv1.ImportResponse, error) {
	e, ok := b.p.(plugin.Exporter)
	if !ok {
		return nil, unsupported("Import")
	}
	sealed := plugin.Sealed{Data: m.GetSealed(), Format: m.GetFormat()}
	return &pluginv1.ImportResponse{}, wire.Status(e.Import(ctx, wire.ToCall(m.GetCall()), sealed, m.GetBinding()))
}
