// Package netinfo tells a node's addresses: the default one, all that are fit
// for a certificate, and when those change.
//
// It promises a set that does not depend on what runs on the node: no address
// of a pod network, a container bridge or a tunnel of one, none that ends soon
// by itself, and always in the same order. A link that carries the default
// route, or that the user names, counts whatever it looks like. It reads
// netlink in the namespace of the calling process and changes nothing.
package netinfo

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// State is what the kernel says of links, addresses and default routes; the
// choices are made on it alone.
type State struct {
	Links     []Link
	Addresses []Address
	Routes    []Route
}

// Link is an interface.
type Link struct {
	Index    int
	Name     string
	Kind     string // as iproute2 has it: "device", "bridge", "veth", ...
	Up       bool
	Loopback bool
	Master   int // index of the bridge or bond it is a port of
}

// Address is an address of a link.
type Address struct {
	Addr netip.Addr
	Link int
	// Passing is true of an IPv6 address that is temporary, deprecated,
	// tentative or a duplicate.
	Passing bool
	// Local is true of an address whose scope is this host.
	Local bool
}

// Route is a default route of the main table.
type Route struct {
	Link   int
	IPv6   bool
	Metric int
	Source netip.Addr // the preferred source, if the route names one
}

// ErrNoAddress is returned where no address can be chosen for a node.
var ErrNoAddress = errors.New("no default address")

// Choose is the set fit for a certificate, sorted, IPv4 first.
func (s State) Choose(named ...string) []netip.Addr {
	var out []netip.Addr
	for _, l := range s.Links {
		if s.counts(l, named) {
			out = append(out, s.addressesOf(l)...)
		}
	}
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}

// Default is the address by which others most likely reach this node, and its
// link: the one of the default route with the lowest metric, IPv4 before IPv6;
// without such a route that of the only link that has one.
func (s State) Default(named ...string) (netip.Addr, string, error) {
	routes := slices.Clone(s.Routes)
	slices.SortStableFunc(routes, func(a, b Route) int {
		if a.IPv6 != b.IPv6 {
			return map[bool]int{true: 1, false: -1}[a.IPv6]
		}
		return cmp.Compare(a.Metric, b.Metric)
	})
	for _, r := range routes {
		l, ok := s.link(r.Link)
		if !ok || !l.Up {
			continue
		}
		if a, ok := s.sourceOf(r, l); ok {
			return a, l.Name, nil
		}
	}
	var links []string
	var first netip.Addr
	for _, l := range s.uplinks(named) {
		if addrs := s.addressesOf(l); len(addrs) > 0 {
			if len(links) == 0 {
				first = slices.MinFunc(addrs, func(a, b netip.Addr) int { return map[bool]int{true: 1}[a.Is6()] - map[bool]int{true: 1}[b.Is6()] })
			}
			links = append(links, l.Name)
		}
	}
	switch len(links) {
	case 0:
		return netip.Addr{}, "", fmt.Errorf("%w: no default route, and no link that is up has an address for a node", ErrNoAddress)
	case 1:
		return first, links[0], nil
	}
	return netip.Addr{}, "", fmt.Errorf("%w: no default route, and several links have an address: %s; say which address",
		ErrNoAddress, strings.Join(links, ", "))
}

// sourceOf is the address that a default route sends from.
func (s State) sourceOf(r Route, l Link) (netip.Addr, bool) {
	for _, a := range s.Addresses {
		if r.Source.IsValid() && a.Addr == r.Source && usable(a) {
			return a.Addr, true
		}
	}
	for _, a := range s.addressesOf(l) {
		if a.Is6() == r.IPv6 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// addressesOf keeps the kernel's order: its first address of a family is the
// primary one.
func (s State) addressesOf(l Link) []netip.Addr {
	var out []netip.Addr
	for _, a := range s.Addresses {
		if a.Link == l.Index && usable(a) {
			out = append(out, a.Addr)
		}
	}
	return out
}

func usable(a Address) bool {
	return a.Addr.IsGlobalUnicast() && !a.Passing && !a.Local
}

// uplinks are the links that count. On a machine without a default route, a
// container's for example, the only uplink may be of a kind that otherwise
// belongs to pods: where none counts, those with an ordinary name do.
func (s State) uplinks(named []string) []Link {
	var out, ordinary []Link
	for _, l := range s.Links {
		switch {
		case s.counts(l, named):
			out = append(out, l)
		case l.Up && l.Kind == "veth" && !virtualName(l.Name):
			ordinary = append(ordinary, l)
		}
	}
	if slices.ContainsFunc(out, func(l Link) bool { return len(s.addressesOf(l)) > 0 }) {
		return out
	}
	return append(out, ordinary...)
}

// counts says whether a link's addresses are this node's own.
func (s State) counts(l Link, named []string) bool {
	if !l.Up {
		return false
	}
	if slices.Contains(named, l.Name) || slices.ContainsFunc(s.Routes, func(r Route) bool { return r.Link == l.Index }) {
		return true
	}
	return !l.Loopback && !virtualName(l.Name) && !s.virtualKind(l)
}

func (s State) link(index int) (Link, bool) {
	i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Index == index })
	if i < 0 {
		return Link{}, false
	}
	return s.Links[i], true
}

// virtualName knows the names that container networks give their links.
func virtualName(name string) bool {
	for _, prefix := range []string{
		"cni", "cali", "flannel.", "vxlan", "veth", "docker", "br-", "virbr", "lxc", "lxd", "incus", "cilium", "kube-",
		"nodelocaldns", "tunl", "podman", "ovn", "ovs-", "weave", "vethwe", "antrea", "genev_sys", "dummy-mk",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// virtualKind judges by the kind of link. A veth that is not the node's own
// uplink (which carries the default route) leads to a container. A bridge is a
// container network's as long as only such links, or none, are its ports.
func (s State) virtualKind(l Link) bool {
	switch l.Kind {
	case "veth", "vxlan", "ipip", "sit", "gre", "gretap", "ip6tnl", "ip6gre", "geneve", "openvswitch", "netkit", "ifb":
		return true
	case "bridge":
		return !slices.ContainsFunc(s.Links, func(port Link) bool {
			return port.Master == l.Index && port.Index != l.Index && port.Kind != "tuntap" && port.Kind != "bridge" && !s.virtualKind(port)
		})
	}
	return false
}

func compare(a, b netip.Addr) int {
	if a.Is6() != b.Is6() {
		return map[bool]int{true: 1, false: -1}[a.Is6()]
	}
	return a.Compare(b)
}
