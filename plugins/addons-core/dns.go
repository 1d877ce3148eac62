package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"strings"
	"text/template"
	"time"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

const (
	dnsName      = "dns"
	dnsInventory = "addon-dns"
	dnsVersion   = "1.14.7"
	dnsImage     = "mk8s.io/coredns:" + dnsVersion
)

//go:embed dns.yaml
var dnsManifests string

func dnsAddon() addons.Addon {
	return addons.Addon{
		Name: dnsName, Description: "CoreDNS: names of services and pods", Version: dnsVersion, Images: []string{dnsImage},
		Arguments: []string{"SERVERS: resolvers for other names, with commas (default: those of the node)"},
	}
}

func dnsObjects() []changeset.ObjectReference {
	return []changeset.ObjectReference{{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns"}}
}

// planDNS applies CoreDNS at the address that every kubelet was told at its
// first start: no program is restarted.
func planDNS(r addons.PlanRequest) (plugin.Answer, error) {
	forward, err := upstreams(r)
	if err != nil {
		return plugin.Answer{}, err
	}
	c := r.Node.Cluster
	if _, err := netip.ParseAddr(c.DNSAddress); err != nil || c.DNSDomain == "" {
		return plugin.Answer{}, plugin.Errorf(plugin.BadArgument, "the cluster names no address and domain for its DNS")
	}
	t, err := template.New("dns.yaml").Parse(dnsManifests)
	if err != nil {
		return plugin.Answer{}, fmt.Errorf("read the manifests of dns: %w", err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]string{
		"Image": dnsImage, "Address": c.DNSAddress, "Domain": c.DNSDomain, "Forward": forward,
	})
	if err != nil {
		return plugin.Answer{}, fmt.Errorf("write the manifests of dns: %w", err)
	}
	b := changeset.Build()
	b.ApplyManifests(dnsInventory, out.Bytes()).Because("the addon dns")
	object := dnsObjects()[0]
	b.Wait(changeset.Wait{Object: &object, Timeout: 3 * time.Minute})
	return plugin.Answer{Changes: b.ChangeSet()}, nil
}

// upstreams are the resolvers for names outside the cluster.
func upstreams(r addons.PlanRequest) (string, error) {
	for k := range r.Values {
		return "", plugin.Errorf(plugin.BadArgument, "dns knows no value %q", k)
	}
	if len(r.Arguments) == 0 {
		return "/etc/resolv.conf", nil
	}
	var out []string
	for _, a := range r.Arguments {
		for s := range strings.SplitSeq(a, ",") {
			s = strings.TrimSpace(s)
			if _, err := netip.ParseAddr(s); err != nil {
				if _, err := netip.ParseAddrPort(s); err != nil {
					return "", plugin.Errorf(plugin.BadArgument, "%q is not the address of a resolver", s)
				}
			}
			out = append(out, s)
		}
	}
	return strings.Join(out, " "), nil
}
