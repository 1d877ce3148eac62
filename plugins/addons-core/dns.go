package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
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
		Arguments: []string{"SERVERS: resolvers for other names, with commas, or none (default: those of the node)"},
	}
}

func dnsObjects() []changeset.ObjectReference {
	return []changeset.ObjectReference{{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns"}}
}

// planDNS applies CoreDNS at the address that every kubelet was told at its
// first start: no program is restarted.
func planDNS(r addons.PlanRequest) (plugin.Answer, error) {
	if err := checkValues(r); err != nil {
		return plugin.Answer{}, err
	}
	forward, err := upstreams(r)
	if err != nil {
		return plugin.Answer{}, err
	}
	c := r.Node.Cluster
	if _, err := netip.ParseAddr(c.DNSAddress); err != nil || !isDomain(c.DNSDomain) {
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

// noForward is the argument of who wants names of the cluster only: on a
// machine without resolvers CoreDNS would not start.
const noForward = "none"

// maxUpstreams is how many CoreDNS takes.
const maxUpstreams = 15

// upstreams are the resolvers for names outside the cluster, as the Corefile
// has them; empty for none.
func upstreams(r addons.PlanRequest) (string, error) {
	// The command line splits words at colons; addresses have some, too.
	list := strings.Join(r.Arguments, ":")
	switch list {
	case "":
		return "/etc/resolv.conf", nil
	case noForward:
		return "", nil
	}
	var out []string
	for s := range strings.SplitSeq(list, ",") {
		resolver, err := resolver(strings.TrimSpace(s), r.Node.Cluster.DNSAddress)
		if err != nil {
			return "", err
		}
		if !slices.Contains(out, resolver) {
			out = append(out, resolver)
		}
	}
	if len(out) > maxUpstreams {
		return "", plugin.Errorf(plugin.BadArgument, "%d resolvers, CoreDNS takes %d at most", len(out), maxUpstreams)
	}
	return strings.Join(out, " "), nil
}

// resolver checks one address, with or without a port.
func resolver(s, own string) (string, error) {
	a, err := netip.ParseAddr(s)
	text := a.String()
	if err != nil {
		var with netip.AddrPort
		if with, err = netip.ParseAddrPort(s); err == nil && with.Port() == 0 {
			return "", plugin.Errorf(plugin.BadArgument, "the resolver %q has port 0", s)
		}
		a, text = with.Addr(), with.String()
	}
	switch {
	case err != nil || a.Zone() != "":
		return "", plugin.Errorf(plugin.BadArgument, "%.80q is not the address of a resolver, like 8.8.8.8 or [2001:db8::1]:53", s)
	case a.IsLoopback() || a.IsUnspecified() || a.IsMulticast():
		return "", plugin.Errorf(plugin.BadArgument, "pods cannot reach a resolver at %s", s)
	case a.String() == own:
		return "", plugin.Errorf(plugin.BadArgument, "%s is the cluster's own DNS: it would ask itself", s)
	}
	return text, nil
}

// checkValues knows one value. The domain is part of what every kubelet and
// certificate of the cluster was told at its first start.
func checkValues(r addons.PlanRequest) error {
	for k, v := range r.Values {
		if k != "domain" {
			return plugin.Errorf(plugin.BadArgument, "dns knows no value %.80q, only domain", k)
		}
		if v != r.Node.Cluster.DNSDomain {
			return plugin.Errorf(plugin.BadArgument, "the domain of this cluster is %s, since its first start", r.Node.Cluster.DNSDomain)
		}
	}
	return nil
}

// isDomain keeps everything out that could mean something in a Corefile.
func isDomain(s string) bool {
	return s != "" && len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" &&
		!strings.Contains(s, "..") && strings.Trim(s, ".-") == s
}
