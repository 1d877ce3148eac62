package kube

import (
	"context"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WatchAPIServers calls see with the addresses of all API servers, sorted, at once and whenever they change, until the
// context ends, which is the error. They are the endpoints of the Service kubernetes, from which an API server that died
// goes by itself. Who asks needs to read EndpointSlices: kube-proxy's user may, a kubelet's may not. trouble, which may be
// nil, hears why nobody can be asked.
func (c *Client) WatchAPIServers(ctx context.Context, see func([]netip.AddrPort), trouble func(error)) error {
	src := c.typed.endpointSlices(metav1.NamespaceDefault).source(metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kubernetes"})
	var last []netip.AddrPort
	return follow(ctx, src, observer{trouble: trouble, see: func(set watched, _ []string) (bool, error) {
		if now := endpointsIn(set); !slices.Equal(now, last) {
			last = now
			see(slices.Clone(now))
		}
		return false, nil
	}})
}

func endpointsIn(set watched) []netip.AddrPort {
	var out []netip.AddrPort
	for _, obj := range set {
		s, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			continue
		}
		for _, port := range s.Ports {
			if port.Port == nil || port.Name == nil || *port.Name != "https" || *port.Port < 1 || *port.Port > 65535 {
				continue
			}
			for _, e := range s.Endpoints {
				if e.Conditions.Ready != nil && !*e.Conditions.Ready {
					continue
				}
				for _, text := range e.Addresses {
					if a, err := netip.ParseAddr(text); err == nil {
						out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(*port.Port)))
					}
				}
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
