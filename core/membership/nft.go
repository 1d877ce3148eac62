package membership

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mk8s.io/mk/core/defaults"
)

// Nft writes a ruleset of nftables: a table of its own that lets through what
// a node needs, and keeps everybody else from its ports. Loading it again
// replaces it.
func (f *Firewall) Nft() string {
	var b strings.Builder
	b.WriteString("# What a node of mk needs. Load it with: nft -f FILE\n" +
		"# A table lets nothing through that another table drops: where yours drops\n" +
		"# what it does not know, put the accept rules into its chain.\n")
	if f.Unknown != "" {
		fmt.Fprintf(&b, "# Everybody is let through: %s.\n# When this node has joined, make it again: then only nodes are.\n", strings.Join(strings.Fields(f.Unknown), " "))
	}
	b.WriteString("table inet mk\ndelete table inet mk\ntable inet mk {\n")
	if f.Unknown == "" {
		writeSets(&b, "nodes", f.Nodes)
		writeSets(&b, "control", f.ControlPlane)
	}
	b.WriteString("\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n" +
		"\t\tiifname \"lo\" accept\n\t\tct state established,related accept\n")
	var closed []string
	for _, p := range f.Ports {
		rule := fmt.Sprintf("%s dport %d", p.Protocol, p.Number)
		if p.From == defaults.FromLoopback {
			continue
		}
		for _, from := range f.sources(p.From) {
			fmt.Fprintf(&b, "\t\t%s%s accept comment %q\n", from, rule, p.Service)
		}
		closed = append(closed, rule)
	}
	if f.Unknown != "" {
		closed = nil
	}
	for _, rule := range closed {
		fmt.Fprintf(&b, "\t\t%s drop\n", rule)
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// sources are what stands before a rule for those who may speak to a port.
func (f *Firewall) sources(from string) []string {
	if f.Unknown != "" || from == defaults.FromClients || from == defaults.FromJoiners {
		return []string{""}
	}
	set := "nodes"
	if from != defaults.FromNodes {
		set = "control"
	}
	out := []string{"ip saddr @" + set + "4 ", "ip6 saddr @" + set + "6 "}
	if from == defaults.FromPods {
		for cidr := range strings.SplitSeq(f.PodCIDR, ",") {
			p, err := netip.ParsePrefix(strings.TrimSpace(cidr))
			switch {
			case err != nil:
			case p.Addr().Is6():
				out = append(out, "ip6 saddr "+p.String()+" ")
			default:
				out = append(out, "ip saddr "+p.String()+" ")
			}
		}
	}
	return out
}

// writeSets writes the set of a family each: nftables mixes none.
func writeSets(b *strings.Builder, name string, all []netip.Addr) {
	for _, family := range []string{"4", "6"} {
		some := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return a.Is6() != (family == "6") })
		kind := map[string]string{"4": "ipv4_addr", "6": "ipv6_addr"}[family]
		fmt.Fprintf(b, "\tset %s%s {\n\t\ttype %s\n", name, family, kind)
		if len(some) > 0 {
			var texts []string
			for _, a := range some {
				texts = append(texts, a.String())
			}
			fmt.Fprintf(b, "\t\telements = { %s }\n", strings.Join(texts, ", "))
		}
		b.WriteString("\t}\n")
	}
}
