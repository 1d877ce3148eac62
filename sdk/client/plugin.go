package client

import (
	"context"

	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/plugin"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

// base speaks mk.plugin.v1.
type base struct{ rpc pluginv1.PluginServiceClient }

func (b base) Describe(ctx context.Context) (plugin.Description, error) {
	m, err := b.rpc.Describe(ctx, &pluginv1.DescribeRequest{})
	if err != nil {
		return plugin.Description{}, answered(err)
	}
	return wire.ToDescription(m), nil
}

func (b base) Configure(ctx context.Context, c plugin.Configuration) error {
	_, err := b.rpc.Configure(ctx, &pluginv1.ConfigureRequest{Settings: c.Settings, StateDir: c.StateDir, ClusterId: c.ClusterID})
	return answered(err)
}

// Health makes "not healthy" an error, as the Go interface has it.
func (b base) Health(ctx context.Context) error {
	m, err := b.rpc.Health(ctx, &pluginv1.HealthRequest{})
	if err != nil {
		return answered(err)
	}
	if !m.GetHealthy() {
		return plugin.Errorf(plugin.Unavailable, "not healthy: %s", wire.Clean(m.GetMessage()))
	}
	return nil
}

func (b base) Forget(ctx context.Context, call plugin.Call) error {
	_, err := b.rpc.Forget(ctx, &pluginv1.ForgetRequest{Call: wire.FromCall(call)})
	return answered(err)
}

func (b base) PrepareImport(ctx context.Context, call plugin.Call) ([]byte, error) {
	m, err := b.rpc.PrepareImport(ctx, &pluginv1.PrepareImportRequest{Call: wire.FromCall(call)})
	return m.GetRecipient(), answered(err)
}

func (b base) Export(ctx context.Context, call plugin.Call, recipient, binding []byte) (plugin.Sealed, error) {
	m, err := b.rpc.Export(ctx, &pluginv1.ExportRequest{Call: wire.FromCall(call), Recipient: recipient, Binding: binding})
	return plugin.Sealed{Data: m.GetSealed(), Format: m.GetFormat()}, answered(err)
}

func (b base) Import(ctx context.Context, call plugin.Call, sealed plugin.Sealed, binding []byte) error {
	_, err := b.rpc.Import(ctx, &pluginv1.ImportRequest{Call: wire.FromCall(call), Sealed: sealed.Data,
		Format: sealed.Format, Binding: binding})
	return answered(err)
}
