package main

import (
	"errors"
	"fmt"

	"github.com/flannel-io/flannel/pkg/backend"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
)

// externalInterface picks the interface for traffic between nodes in upstream's order: --iface, --iface-regex,
// --iface-can-reach; without any of them that of the public address, or else of the default route.
// The error names every choice that failed and why.
func externalInterface(o options, config *subnet.Config) (*backend.ExternalInterface, error) {
	family, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return nil, fmt.Errorf("finding the address family in the network configuration: %w", err)
	}
	public := ipmatch.PublicIPOpts{PublicIP: o.publicIP, PublicIPv6: o.publicIPv6}
	type choice struct{ name, regex, reach string }
	var choices []choice
	for _, name := range o.ifaces {
		choices = append(choices, choice{name: name})
	}
	for _, regex := range o.ifaceRegexes {
		choices = append(choices, choice{regex: regex})
	}
	if o.ifaceCanReach != "" {
		choices = append(choices, choice{reach: o.ifaceCanReach})
	}
	if len(choices) == 0 {
		name := o.publicIP
		if name == "" {
			name = o.publicIPv6
		}
		choices = append(choices, choice{name: name})
	}
	var errs []error
	for _, c := range choices {
		found, err := ipmatch.LookupExtIface(c.name, c.regex, c.reach, family, public)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if found != nil {
			return found, nil
		}
		errs = append(errs, fmt.Errorf("nothing matches %q", c.name+c.regex+c.reach))
	}
	return nil, fmt.Errorf("finding the interface to other nodes: %w", errors.Join(errs...))
}
