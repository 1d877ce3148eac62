// Command example is a complete addons plugin in one file: one addon that
// applies one ConfigMap.
package main

import (
	"context"
	"fmt"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

func main() { sdk.Serve(&greeter{}, sdk.WithAbout(sdk.About{Description: "Greets the cluster."})) }

type greeter struct{}

var _ addons.Plugin = (*greeter)(nil)

func (*greeter) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Identity:  plugin.Identity{Kind: plugin.KindAddons, Name: "greeter", Version: "1.0.0", Publisher: "Example Inc."},
		Contracts: []string{plugin.Contract(plugin.KindAddons)},
		Grants:    plugin.Grants{Objects: []plugin.ObjectGrant{{Kinds: []string{"ConfigMap"}, Namespaces: []string{"default"}}}},
	}, nil
}

func (*greeter) Configure(context.Context, plugin.Configuration) error { return nil }
func (*greeter) Health(context.Context) error                          { return nil }
func (*greeter) Forget(context.Context, plugin.Call) error             { return nil }

func (*greeter) List(context.Context) ([]addons.Addon, error) {
	return []addons.Addon{{Name: "greeting", Description: "A greeting in a ConfigMap", Version: "1.0.0"}}, nil
}

func (*greeter) Plan(ctx context.Context, r addons.PlanRequest) (plugin.Answer, error) {
	if r.Addon != "greeting" {
		return plugin.Answer{}, plugin.Errorf(plugin.AddonUnknown, "there is no addon %q", r.Addon)
	}
	sdk.LoggerFrom(ctx).Debug("planning", "enable", r.Enable)
	if !r.Enable {
		return plugin.Answer{Changes: changeset.Build().DeleteManifests("greeting").ChangeSet()}, nil
	}
	manifest := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: greeting, namespace: default}\ndata: {from: %q}\n", r.Node.Name)
	return plugin.Answer{Changes: changeset.Build().
		ApplyManifests("greeting", []byte(manifest)).Because("the greeting").
		ChangeSet()}, nil
}

func (*greeter) Probe(_ context.Context, addon string) ([]changeset.ObjectReference, error) {
	if addon != "greeting" {
		return nil, plugin.Errorf(plugin.AddonUnknown, "there is no addon %q", addon)
	}
	return []changeset.ObjectReference{{Version: "v1", Kind: "ConfigMap", Namespace: "default", Name: "greeting"}}, nil
}
