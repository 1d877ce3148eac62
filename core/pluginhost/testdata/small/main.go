// Small is the smallest plugin made with the sdk.
package main

import (
	"context"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

func main() { sdk.Serve(small{}) }

type small struct{}

func (small) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{Identity: plugin.Identity{Kind: plugin.KindAddons, Name: "test", Version: "1.2.3"},
		Contracts: []string{plugin.Contract(plugin.KindAddons)}}, nil
}

func (small) Configure(context.Context, plugin.Configuration) error { return nil }
func (small) Health(context.Context) error                          { return nil }
func (small) Forget(context.Context, plugin.Call) error             { return nil }
func (small) List(context.Context) ([]addons.Addon, error)          { return nil, nil }

func (small) Plan(context.Context, addons.PlanRequest) (plugin.Answer, error) {
	return plugin.Answer{}, nil
}

func (small) Probe(context.Context, string) ([]changeset.ObjectReference, error) { return nil, nil }
