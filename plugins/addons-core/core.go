package main

import (
	"context"
	"slices"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// Core offers addons; it keeps no state.
type Core struct{ version string }

var _ addons.Plugin = (*Core)(nil)

// New makes the plugin.
func New(version string) *Core { return &Core{version: version} }

// Describe says what this plugin is and which objects its addons are made of.
func (p *Core) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Identity:  plugin.Identity{Kind: plugin.KindAddons, Name: "core", Version: p.version, Publisher: "mk"},
		Contracts: []string{plugin.Contract(plugin.KindAddons)},
		Grants: plugin.Grants{Objects: []plugin.ObjectGrant{
			{Group: "", Kinds: []string{"ConfigMap", "Service", "ServiceAccount"}, Namespaces: []string{"kube-system"}},
			{Group: "apps", Kinds: []string{"Deployment"}, Namespaces: []string{"kube-system"}},
			{Group: "rbac.authorization.k8s.io", Kinds: []string{"ClusterRole", "ClusterRoleBinding"}},
		}},
	}, nil
}

// Configure has nothing to keep.
func (p *Core) Configure(context.Context, plugin.Configuration) error { return nil }

// Health is always good: answers depend on questions only.
func (p *Core) Health(context.Context) error { return nil }

// Forget has nothing to drop.
func (p *Core) Forget(context.Context, plugin.Call) error { return nil }

// List names the addons.
func (p *Core) List(context.Context) ([]addons.Addon, error) { return []addons.Addon{dnsAddon()}, nil }

func unknown(addon string) error {
	return plugin.Errorf(plugin.AddonUnknown, "there is no addon %q in addons/core: dns", addon)
}

// Plan answers what enabling or disabling an addon changes.
func (p *Core) Plan(_ context.Context, r addons.PlanRequest) (plugin.Answer, error) {
	if r.Addon != dnsName {
		return plugin.Answer{}, unknown(r.Addon)
	}
	if !r.Enable {
		if len(r.Arguments) > 0 || len(r.Values) > 0 {
			return plugin.Answer{}, plugin.Errorf(plugin.BadArgument, "disabling dns takes no arguments")
		}
		return plugin.Answer{Changes: changeset.Build().DeleteManifests(dnsInventory).Because("the addon dns").ChangeSet()}, nil
	}
	return planDNS(r)
}

// Probe names the objects which tell that an addon is enabled and healthy.
func (p *Core) Probe(_ context.Context, addon string) ([]changeset.ObjectReference, error) {
	if addon != dnsName {
		return nil, unknown(addon)
	}
	return slices.Clone(dnsObjects()), nil
}
