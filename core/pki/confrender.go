package pki

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

//go:embed csr.conf.template
var defaultTemplate string

// FirstServiceIP is the address that the service `kubernetes` gets in a range: the one after the range's own.
func FirstServiceIP(services netip.Prefix) netip.Addr { return services.Masked().Addr().Next() }

// DefaultTemplate is the text of csr.conf.template of a new node. The service addresses, one per family, follow 127.0.0.1
// as IP.2 and on.
func DefaultTemplate(serviceIPs ...netip.Addr) []byte {
	var b strings.Builder
	for i, ip := range serviceIPs {
		fmt.Fprintf(&b, "IP.%d = %s\n", i+2, ip)
	}
	return []byte(strings.Replace(defaultTemplate, "#SERVICEIPS\n", b.String(), 1))
}

// BaseNames are those without which pods and the node itself cannot reach the API server. A template from which one of
// them was deleted still gets it.
func BaseNames(serviceIPs ...netip.Addr) Names {
	svc := "kubernetes.default.svc"
	return Names{
		DNS: []string{"kubernetes", "kubernetes.default", svc, svc + ".cluster", svc + ".cluster.local"},
		IPs: append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, serviceIPs...),
	}.Normal()
}

// Render replaces the line #MOREIPS of a template by one line `IP.n = address` per address that the template has not
// already, from 3 on and skipping the numbers that it uses. A template without that line gets no addresses: who deleted it
// wanted that. The addresses are taken as a set, so their order makes no difference.
func Render(file string, template []byte, addrs []netip.Addr) ([]byte, error) {
	c, err := ParseConf(file, template)
	if err != nil {
		return nil, err
	}
	have, err := c.Names()
	if err != nil {
		return nil, err
	}
	sections, _, err := c.nameSections()
	if err != nil {
		return nil, err
	}
	if c.markLine == 0 {
		return template, nil
	}
	if !slices.Contains(sections, c.marker) {
		return nil, fmt.Errorf("%s:%d: %s stands in [ %s ], where no subjectAltName points to", file, c.markLine, moreIPs, c.marker)
	}
	more := Names{IPs: addrs}
	if err := more.check(); err != nil {
		return nil, fmt.Errorf("addresses for %s: %w", file, err)
	}
	number := 3
	var lines strings.Builder
	for _, ip := range more.Without(have).IPs {
		for c.has(c.marker, "IP."+strconv.Itoa(number)) {
			number++
		}
		fmt.Fprintf(&lines, "IP.%d = %s\n", number, ip)
		number++
	}
	var out []byte
	n := 0
	for line := range bytes.Lines(template) {
		if n++; n == c.markLine {
			out = append(out, lines.String()...)
			continue
		}
		out = append(out, line...)
	}
	return out, nil
}
