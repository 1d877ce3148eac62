package apiproxy

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ListFile is the list of API servers, below the root folder: one ADDRESS:PORT
// a line. Who joins a worker writes it first; then the proxy keeps it.
const ListFile = "var/lib/apiserver-endpoints"

const (
	mostEndpoints = 256
	longestLine   = 128
)

// FormatList writes a list.
func FormatList(list []netip.AddrPort) []byte {
	var b bytes.Buffer
	for _, a := range list {
		fmt.Fprintln(&b, a)
	}
	return b.Bytes()
}

// ParseList reads a list: each endpoint once, sorted. Empty lines and those
// that begin with # are left out; the error names the line.
func ParseList(data []byte) ([]netip.AddrPort, error) {
	var list []netip.AddrPort
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		a, err := netip.ParseAddrPort(text[:min(len(text), longestLine)])
		if err != nil || !usable(a) || len(text) > longestLine {
			return nil, fmt.Errorf("line %d: %.80q is not ADDRESS:PORT of an API server", n, text)
		}
		list = append(list, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the list of API servers: %w", err)
	}
	list = normal(list)
	if len(list) > mostEndpoints {
		return nil, fmt.Errorf("%d API servers are more than %d", len(list), mostEndpoints)
	}
	return list, nil
}

func usable(a netip.AddrPort) bool {
	return a.IsValid() && a.Port() != 0 && a.Addr().Zone() == "" && !a.Addr().Unmap().IsUnspecified() && !a.Addr().Unmap().IsMulticast()
}

func normal(list []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(list, netip.AddrPort.Compare)
	return slices.Compact(list)
}
