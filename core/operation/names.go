package operation

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/defaults"
)

// nodeName makes a host name a node's: lower case, and only what Kubernetes
// allows.
func nodeName(host string) string {
	host = strings.ToLower(host)
	mapped := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, host)
	if mapped = strings.Trim(mapped, "-."); mapped == "" {
		return "node"
	}
	return mapped
}

// HostNodeName is the name that a node has where nobody gives it another.
func HostNodeName() string { return nodeName(hostname()) }

func sortedNames(m map[string][]byte) []string { return slices.Sorted(maps.Keys(m)) }

// missingOptions are the defaults that an args file says nothing about.
func (n *Node) missingOptions(service string, options []defaults.Option) ([]defaults.Option, error) {
	f, err := args.Load(n.Root.Args(service))
	if errors.Is(err, fs.ErrNotExist) {
		return options, nil
	}
	if err != nil {
		return nil, fmt.Errorf("arguments of %s: %w", service, err)
	}
	var out []defaults.Option
	for _, o := range options {
		if len(f.All(o.Name)) == 0 {
			out = append(out, o)
		}
	}
	return out, nil
}
