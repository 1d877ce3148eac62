package pki

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Names are the subject alternative names that mk knows: DNS names and addresses.
type Names struct {
	DNS []string
	IPs []netip.Addr
}

// Normal is the set: lower case, IPv4-mapped addresses as IPv4, sorted, each once. Two nodes with the same names in
// another order are the same, so an order that changes never causes a reissue.
func (n Names) Normal() Names {
	out := Names{DNS: make([]string, 0, len(n.DNS)), IPs: make([]netip.Addr, 0, len(n.IPs))}
	for _, d := range n.DNS {
		out.DNS = append(out.DNS, strings.ToLower(d))
	}
	for _, ip := range n.IPs {
		out.IPs = append(out.IPs, ip.Unmap())
	}
	slices.Sort(out.DNS)
	slices.SortFunc(out.IPs, netip.Addr.Compare)
	out.DNS = slices.Compact(out.DNS)
	out.IPs = slices.Compact(out.IPs)
	return out
}

// Union is the set of what either has.
func (n Names) Union(o Names) Names {
	return Names{DNS: slices.Concat(n.DNS, o.DNS), IPs: slices.Concat(n.IPs, o.IPs)}.Normal()
}

// Without is the set of what n has and o has not.
func (n Names) Without(o Names) Names {
	n, o = n.Normal(), o.Normal()
	return Names{
		DNS: slices.DeleteFunc(n.DNS, func(d string) bool { _, ok := slices.BinarySearch(o.DNS, d); return ok }),
		IPs: slices.DeleteFunc(n.IPs, func(ip netip.Addr) bool {
			_, ok := slices.BinarySearchFunc(o.IPs, ip, netip.Addr.Compare)
			return ok
		}),
	}
}

// Empty tells that there is no name at all.
func (n Names) Empty() bool { return len(n.DNS) == 0 && len(n.IPs) == 0 }

// Strings lists the names as openssl's text does: DNS:… and IP:….
func (n Names) Strings() []string {
	out := make([]string, 0, len(n.DNS)+len(n.IPs))
	for _, d := range n.DNS {
		out = append(out, "DNS:"+d)
	}
	for _, ip := range n.IPs {
		out = append(out, "IP:"+ip.String())
	}
	return out
}

// check reports every name that cannot stand in a certificate.
func (n Names) check() error {
	var f faults
	if len(n.DNS)+len(n.IPs) > maxNames {
		f.addf("%d names are more than the %d allowed", len(n.DNS)+len(n.IPs), maxNames)
	}
	for _, d := range n.DNS {
		f.add(checkDNS(d))
	}
	for _, ip := range n.IPs {
		f.add(checkIP(ip))
	}
	return f.wrap("names")
}

// maxNames bounds what one certificate may carry.
const maxNames = 500

// checkDNS holds a name to RFC 5280 and RFC 1123: letters, digits and hyphens, with one leading wildcard allowed.
func checkDNS(name string) error {
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("DNS name %q is an address: write it as an IP", name)
	}
	if len(name) == 0 || len(name) > 253 {
		return fmt.Errorf("DNS name %.80q has %d characters: 1 to 253", name, len(name))
	}
	rest := strings.TrimPrefix(name, "*.")
	for label := range strings.SplitSeq(rest, ".") {
		if !validLabel(strings.ToLower(label)) {
			return fmt.Errorf("DNS name %q: label %q is not letters, digits and inner hyphens, 1 to 63 of them", name, label)
		}
	}
	return nil
}

func validLabel(l string) bool {
	if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	for i := range len(l) {
		if c := l[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

func checkIP(ip netip.Addr) error {
	switch {
	case !ip.IsValid():
		return fmt.Errorf("an address is empty")
	case ip.Zone() != "":
		return fmt.Errorf("address %s has a zone: it means something on this machine only", ip)
	case ip.IsUnspecified():
		return fmt.Errorf("address %s is no address of a server", ip)
	case ip.IsMulticast():
		return fmt.Errorf("address %s is a multicast address", ip)
	}
	return nil
}

// NamesOf takes DNS names and addresses from where crypto/x509 puts them.
func NamesOf(dns []string, ips []net.IP) Names {
	n := Names{DNS: dns}
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok {
			n.IPs = append(n.IPs, a)
		}
	}
	return n.Normal()
}

// netIPs is the way back.
func netIPs(ips []netip.Addr) []net.IP {
	out := make([]net.IP, 0, len(ips))
	for _, ip := range ips {
		out = append(out, ip.Unmap().AsSlice())
	}
	return out
}

// CheckNodeName holds a node's name to what Kubernetes takes and a certificate can carry. The common name
// system:node:NAME ends at 64 characters (RFC 5280), which leaves 52.
func CheckNodeName(name string) error {
	if len(name) == 0 {
		return fmt.Errorf("node name is empty")
	}
	if limit := maxCommonName - len("system:node:"); len(name) > limit {
		return fmt.Errorf("node name %.80q has %d characters: a certificate's common name leaves %d", name, len(name), limit)
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return fmt.Errorf("node name %q: label %q is not lower-case letters, digits and inner hyphens", name, label)
		}
	}
	return nil
}

// maxCommonName is ub-common-name of RFC 5280.
const maxCommonName = 64
