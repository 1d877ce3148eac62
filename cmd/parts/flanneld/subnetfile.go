package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/flannel-io/flannel/pkg/ip"
)

// maxSubnetFile is far above what flannel writes: six short lines.
const maxSubnetFile = 64 << 10

// previous is what an earlier run has written to the subnet file; the zero value of a field stands for none.
type previous struct {
	network, subnet   netip.Prefix
	network6, subnet6 netip.Prefix
}

// readSubnetFile reads path. A missing file is an empty answer.
func readSubnetFile(path string) (previous, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return previous{}, nil
	}
	if err != nil {
		return previous{}, fmt.Errorf("reading the subnet file: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSubnetFile+1))
	if err != nil {
		return previous{}, fmt.Errorf("reading the subnet file %s: %w", path, err)
	}
	if len(content) > maxSubnetFile {
		return previous{}, fmt.Errorf("the subnet file %s is larger than %d bytes", path, maxSubnetFile)
	}
	p, err := parseSubnetFile(content)
	if err != nil {
		return previous{}, fmt.Errorf("reading the subnet file %s: %w", path, err)
	}
	return p, nil
}

// parseSubnetFile reads KEY=VALUE lines. Keys that it doesn't know are skipped, a known one of the wrong
// family or form is an error.
func parseSubnetFile(content []byte) (previous, error) {
	var p previous
	fields := map[string]*netip.Prefix{
		"FLANNEL_NETWORK": &p.network, "FLANNEL_SUBNET": &p.subnet,
		"FLANNEL_IPV6_NETWORK": &p.network6, "FLANNEL_IPV6_SUBNET": &p.subnet6,
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, maxSubnetFile+1)
	for n := 1; lines.Scan(); n++ {
		key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		field := fields[key]
		if !ok || field == nil {
			continue
		}
		prefix, err := netip.ParsePrefix(value)
		if err != nil {
			return previous{}, fmt.Errorf("line %d: %w", n, err)
		}
		if prefix.Addr().Is4() == strings.Contains(key, "IPV6") {
			return previous{}, fmt.Errorf("line %d: %s is of the wrong family", n, prefix)
		}
		*field = prefix.Masked()
	}
	if err := lines.Err(); err != nil {
		return previous{}, err
	}
	return p, nil
}

// toIP4Net and toIP6Net turn a prefix into flannel's types; none becomes their empty value.
func toIP4Net(p netip.Prefix) ip.IP4Net {
	if !p.IsValid() {
		return ip.IP4Net{}
	}
	return ip.FromIPNet(toIPNet(p))
}

func toIP6Net(p netip.Prefix) ip.IP6Net {
	if !p.IsValid() {
		return ip.IP6Net{IP: (*ip.IP6)(big.NewInt(0))}
	}
	return ip.FromIP6Net(toIPNet(p))
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
