package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/plugin"
)

func (s *suite) addons() {
	s.running("addons/every-one-plans-and-probes", func(ctx context.Context, c Instance) error {
		list, err := c.Addons().List(ctx)
		if err != nil {
			return err
		}
		for _, a := range list {
			if err := errors.Join(want(a.Name != "" && a.Version != "", "an addon has no name or version"),
				plans(ctx, c.Addons(), a.Name)); err != nil {
				return fmt.Errorf("addon %q: %w", a.Name, err)
			}
		}
		return nil
	})
	s.running("addons/unknown", func(ctx context.Context, c Instance) error {
		_, planned := c.Addons().Plan(ctx, plan("no-such-addon", true))
		_, probed := c.Addons().Probe(ctx, "no-such-addon")
		return errors.Join(refused(planned, plugin.AddonUnknown), refused(probed, plugin.AddonUnknown))
	})
}

func plan(addon string, enable bool) addons.PlanRequest {
	return addons.PlanRequest{Call: op("plan"), Addon: addon, Enable: enable, Node: plugin.Node{
		Name: "node-1", Role: plugin.RoleControlPlane, Address: "10.0.0.1", Addresses: []string{"10.0.0.1"}, Hostname: "node-1",
		Cluster: plugin.Cluster{ID: "conformance", PodCIDR: "10.1.0.0/16", ServiceCIDR: "10.152.183.0/24",
			DNSAddress: "10.152.183.10", DNSDomain: "cluster.local", APIPort: 16443, AgentPort: 25000}}}
}

// plans asks for both directions, twice each: a plan changes nothing, so the
// answer is the same.
func plans(ctx context.Context, p addons.Plugin, name string) error {
	for _, enable := range []bool{true, false} {
		first, err := p.Plan(ctx, plan(name, enable))
		if err != nil {
			return err
		}
		again, err := p.Plan(ctx, plan(name, enable))
		if err != nil {
			return err
		}
		x, errX := json.Marshal(first.Changes)
		y, errY := json.Marshal(again.Changes)
		if err := errors.Join(errX, errY, want(bytes.Equal(x, y), "the same question got another plan")); err != nil {
			return err
		}
		if err := want(first.NotYet != nil || len(first.Changes.Operations) > 0, "the plan is empty"); err != nil {
			return err
		}
	}
	objects, err := p.Probe(ctx, name)
	if err != nil {
		return err
	}
	return want(len(objects) > 0, "no object tells that it is enabled")
}
