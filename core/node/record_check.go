package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// FieldError is a fault in one field of a record, by its name in node.json.
type FieldError struct {
	Field string
	Fault string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Fault }

// Check returns every fault of a record, joined; each is a FieldError.
func (rec *Record) Check() error {
	var faults []error
	add := func(field, format string, a ...any) {
		faults = append(faults, &FieldError{Field: field, Fault: fmt.Sprintf(format, a...)})
	}
	if rec.Schema < max(1, RecordSchema-1) || rec.Schema > RecordSchema {
		add("schema", "%d is not one that this mk knows", rec.Schema)
	}
	if !ValidID(rec.ID) {
		add("id", "%q is not a uuid in lower case", rec.ID)
	}
	if rec.ClusterID != "" && !ValidID(rec.ClusterID) {
		add("clusterID", "%q is not a uuid in lower case", rec.ClusterID)
	}
	if err := CheckName(rec.Name); err != nil {
		add("name", "%v", err)
	}
	if rec.Role != ControlPlane && rec.Role != Worker {
		add("role", "%q is neither %s nor %s", rec.Role, ControlPlane, Worker)
	}
	if rec.Auth != X509 && rec.Auth != Token {
		add("auth", "%q is neither %s nor %s", rec.Auth, X509, Token)
	}
	if rec.Address != "" && !validAddr(rec.Address) {
		add("address", "%q is not an IP address of a node", rec.Address)
	}
	for i, a := range rec.Addresses {
		if !validAddr(a) {
			add("addresses", "%q is not an IP address of a node", a)
		} else if slices.Contains(rec.Addresses[:i], a) {
			add("addresses", "%s a second time", a)
		}
	}
	for i, s := range rec.Off {
		if CheckName(s) != nil || slices.Contains(rec.Off[:i], s) {
			add("off", "%q is not the name of a service, or there a second time", s)
		}
	}
	if len(rec.Installed) > 100 || strings.ContainsFunc(rec.Installed, func(c rune) bool { return c <= ' ' || c > '~' }) {
		add("installed", "%q is not a version", rec.Installed)
	}
	rec.Network.check(add)
	return errors.Join(faults...)
}

func (n *Network) check(add func(field, format string, a ...any)) {
	pods, err := parseCIDRs(n.PodCIDR)
	if err != nil {
		add("podCIDR", "%v", err)
	}
	services, err := parseCIDRs(n.ServiceCIDR)
	if err != nil {
		add("serviceCIDR", "%v", err)
	}
	for _, p := range pods {
		for _, s := range services {
			if p.Overlaps(s) {
				add("serviceCIDR", "%s overlaps the pods' %s", s, p)
			}
		}
	}
	dns, err := netip.ParseAddr(n.DNS)
	inside := slices.ContainsFunc(services, func(s netip.Prefix) bool { return s.Contains(dns) })
	if err != nil || (len(services) > 0 && !inside) {
		add("dns", "%q is not an address in %s", n.DNS, n.ServiceCIDR)
	}
	if err := CheckName(n.Domain); err != nil {
		add("domain", "%v", err)
	}
	if n.APIPort < 1 || n.APIPort > 65535 {
		add("apiPort", "%d is not a port", n.APIPort)
	}
	if n.AgentPort < 1 || n.AgentPort > 65535 {
		add("agentPort", "%d is not a port", n.AgentPort)
	} else if n.AgentPort == n.APIPort {
		add("agentPort", "%d is the API server's", n.AgentPort)
	}
	if n.CNI != "" && CheckName(n.CNI) != nil {
		add("cni", "%q is not a name", n.CNI)
	}
}

// CheckName says what is wrong with a node's name: it is a DNS name in lower
// case (RFC 1123), of at most 253 bytes, each label at most 63.
func CheckName(name string) error {
	if name == "" || len(name) > 253 {
		return fmt.Errorf("a name has 1 to 253 characters, not %d", len(name))
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("%q is not a DNS name of lower-case letters, digits, dashes and dots", name)
		}
	}
	return nil
}

// ValidID reports whether s has the form of NewID.
func ValidID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'f'
		if dash != (s[i] == '-') || !dash && !hex {
			return false
		}
	}
	return true
}

func validAddr(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && a.String() == s
}

// SetServices takes another range for services. The address of DNS is its tenth
// one, as with kubeadm and in MicroK8s.
func (n *Network) SetServices(cidr string) {
	n.ServiceCIDR = cidr
	if all, err := parseCIDRs(cidr); err == nil { // else Check says so
		dns := all[0].Addr()
		for range 10 {
			dns = dns.Next()
		}
		n.DNS = dns.String()
	}
}

func parseCIDRs(s string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for part := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("%q is not a network like 10.1.0.0/16", part)
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("%s has host bits; write %s", p, p.Masked())
		}
		out = append(out, p)
	}
	if len(out) > 2 || len(out) == 2 && out[0].Addr().Is4() == out[1].Addr().Is4() {
		return nil, fmt.Errorf("%q is not one network, or one of each family", s)
	}
	return out, nil
}
