package netinfo

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// build reads a state from words: "2:eth0/device 10.0.0.5 default=100" and the
// like. A link ends with its kind, "!" means down, "@N" is a port of link N; an
// address may have "~" (passing) or "^" (host scope) at its end.
func build(t *testing.T, text string) State {
	t.Helper()
	var s State
	for entry := range strings.SplitSeq(text, ";") {
		words := strings.Fields(entry)
		if len(words) == 0 {
			continue
		}
		name, kind, _ := strings.Cut(words[0], "/")
		l := Link{Index: len(s.Links) + 1, Name: name, Up: true, Loopback: name == "lo"}
		kind, down := strings.CutSuffix(kind, "!")
		kind, master, port := strings.Cut(kind, "@")
		l.Kind, l.Up = kind, !down
		if port {
			l.Master = int(master[0] - '0')
		}
		for _, w := range words[1:] {
			if metric, ok := strings.CutPrefix(w, "default"); ok {
				v6 := strings.HasPrefix(metric, "6")
				metric, source, _ := strings.Cut(strings.TrimPrefix(metric, "6"), ",")
				r := Route{Link: l.Index, IPv6: v6, Metric: len(metric)}
				if source != "" {
					r.Source = netip.MustParseAddr(source)
				}
				s.Routes = append(s.Routes, r)
				continue
			}
			a := Address{Link: l.Index, Passing: strings.HasSuffix(w, "~"), Local: strings.HasSuffix(w, "^")}
			a.Addr = netip.MustParseAddr(strings.TrimRight(w, "~^"))
			s.Addresses = append(s.Addresses, a)
		}
		s.Links = append(s.Links, l)
	}
	return s
}

func TestChoose(t *testing.T) {
	t.Parallel()
	const lo = "lo/device 127.0.0.1 ::1^;"
	tests := map[string]struct{ state, named, want string }{
		"a plain node":                       {lo + "eth0/device 10.0.0.5 fe80::1 2001:db8::5 default", "", "10.0.0.5 2001:db8::5"},
		"sorted, IPv4 first, once":           {"b/device 2001:db8::1 10.0.0.9;a/device 10.0.0.10 10.0.0.9", "", "10.0.0.9 10.0.0.10 2001:db8::1"},
		"link-local of IPv4":                 {"eth0/device 169.254.1.1 10.0.0.5", "", "10.0.0.5"},
		"temporary, deprecated, tentative":   {"eth0/device 2001:db8::5 2001:db8::6~", "", "2001:db8::5"},
		"a second IPv4 address stays":        {"eth0/device 10.0.0.5 10.0.0.6", "", "10.0.0.5 10.0.0.6"},
		"unique local IPv6 stays":            {"eth0/device fd00::5", "", "fd00::5"},
		"a link that is down":                {"eth0/device! 10.0.0.5", "", ""},
		"addresses on the loopback link":     {"lo/device 127.0.0.1 10.9.9.9;eth0/device 10.0.0.5", "", "10.0.0.5"},
		"named: loopback":                    {"lo/device 127.0.0.1 10.9.9.9", "lo", "10.9.9.9"},
		"docker, by name":                    {"docker0/bridge 172.17.0.1;eth0/device 10.0.0.5", "", "10.0.0.5"},
		"flannel and cni":                    {"flannel.1/vxlan 10.1.0.0;cni0/bridge 10.1.0.1;eth0/device 10.0.0.5", "", "10.0.0.5"},
		"calico":                             {"vxlan.calico/vxlan 10.1.2.0;cali123/veth 169.254.1.1;tunl0/ipip 10.1.2.3;eth0/device 10.0.0.5", "", "10.0.0.5"},
		"kube-proxy's IPVS, nodelocaldns":    {"kube-ipvs0/dummy 10.152.183.1;nodelocaldns/dummy 10.0.1.2;eth0/device 10.0.0.5", "", "10.0.0.5"},
		"libvirt, cilium, lxd, ovn":          {"virbr0/bridge 192.168.122.1;cilium_host/veth 10.1.1.1;lxdbr0/bridge 10.5.0.1;ovn0/device 10.6.0.1;eth0/device 10.0.0.5", "", "10.0.0.5"},
		"a bridge of containers, any name":   {"mynet/bridge 172.30.0.1;p1/veth@1;p2/veth@1;eth0/device 10.0.0.5", "", "10.0.0.5"},
		"a bridge without ports":             {"mynet/bridge 172.30.0.1;eth0/device 10.0.0.5", "", "10.0.0.5"},
		"a bridge of virtual machines":       {"mynet/bridge 172.30.0.1;tap1/tuntap@1;eth0/device 10.0.0.5", "", "10.0.0.5"},
		"a bridge with a network card":       {"br0/bridge 10.0.0.5;eth0/device@1;p2/veth@1", "", "10.0.0.5"},
		"a bridge with a bond":               {"br0/bridge 10.0.0.5;bond0/bond@1", "", "10.0.0.5"},
		"the uplink is a veth":               {"uplink/veth 10.0.0.5 default", "", "10.0.0.5"},
		"the uplink is named as a veth":      {"veth0/veth 10.0.0.5 default", "", "10.0.0.5"},
		"a veth without the default route":   {"uplink/veth 10.0.0.5", "", ""},
		"a veth that the user named":         {"uplink/veth 10.0.0.5", "uplink", "10.0.0.5"},
		"docker0 that the user named":        {"docker0/bridge 172.17.0.1", "docker0", "172.17.0.1"},
		"a bridge with the default route":    {"br-lan/bridge 10.0.0.5 default", "", "10.0.0.5"},
		"a tunnel of the user's stays":       {"wg0/wireguard 10.8.0.1;tailscale0/tuntap 100.64.0.1", "", "10.8.0.1 100.64.0.1"},
		"vlan and bond":                      {"bond0.5/vlan 10.5.0.1;bond0/bond 10.0.0.5", "", "10.0.0.5 10.5.0.1"},
		"a tunnel by kind":                   {"overlay/vxlan 10.8.0.1;g/geneve 10.9.0.1", "", ""},
		"addresses of host scope, multicast": {"eth0/device 10.0.0.5^ 224.0.0.1 0.0.0.0", "", ""},
		"nothing":                            {"", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, a := range build(t, tt.state).Choose(strings.Fields(tt.named)...) {
				got = append(got, a.String())
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ state, want, link, fault string }{
		"by the route":                     {state: "a/device 10.9.0.1;b/device 10.0.0.5 default", want: "10.0.0.5", link: "b"},
		"the lowest metric":                {state: "a/device 10.9.0.1 default===;b/device 10.0.0.5 default=", want: "10.0.0.5", link: "b"},
		"IPv4 before IPv6":                 {state: "a/device 2001:db8::1 default6;b/device 10.0.0.5 default===", want: "10.0.0.5", link: "b"},
		"IPv6 alone":                       {state: "a/device fe80::1 2001:db8::9~ 2001:db8::1 default6", want: "2001:db8::1", link: "a"},
		"the route's own source":           {state: "a/device 10.0.0.5 10.0.0.6 default,10.0.0.6", want: "10.0.0.6", link: "a"},
		"a source on another link":         {state: "lo/device 10.7.7.7;a/device 10.0.0.5 default,10.7.7.7", want: "10.7.7.7", link: "a"},
		"a source that is gone":            {state: "a/device 10.0.0.5 default,10.0.0.6", want: "10.0.0.5", link: "a"},
		"the route's link is down":         {state: "a/device! 10.0.0.5 default;b/device 10.0.0.6", want: "10.0.0.6", link: "b"},
		"the route's link has no address":  {state: "a/device default;b/device 10.0.0.6 default=", want: "10.0.0.6", link: "b"},
		"a veth with the route":            {state: "v/veth 10.0.0.5 default", want: "10.0.0.5", link: "v"},
		"no route, one link":               {state: "lo/device 127.0.0.1;docker0/bridge 172.17.0.1;a/device 2001:db8::1 10.0.0.5", want: "10.0.0.5", link: "a"},
		"no route, several links":          {state: "a/device 10.0.0.5;b/device 10.0.0.6", fault: "several links have an address: a, b"},
		"no route, only containers' links": {state: "lo/device 127.0.0.1;docker0/bridge 172.17.0.1", fault: "no default route, and no link"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, link, err := build(t, tt.state).Default()
			if tt.fault != "" {
				if !errors.Is(err, ErrNoAddress) || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("error %v, want one with %q", err, tt.fault)
				}
				return
			}
			if err != nil || a.String() != tt.want || link != tt.link {
				t.Errorf("got %v on %s, %v; want %s on %s", a, link, err, tt.want, tt.link)
			}
		})
	}
}

func TestTheOrderOfTheKernelsListsDoesNotMatter(t *testing.T) {
	t.Parallel()
	s := build(t, "a/device 10.0.0.5 10.0.0.4;b/bridge 10.1.1.1;eth0/device@2;c/device 2001:db8::2 default6")
	want := s.Choose()
	slices.Reverse(s.Links)
	slices.Reverse(s.Addresses)
	if got := s.Choose(); !slices.Equal(got, want) || len(want) != 4 {
		t.Errorf("got %v, want %v", got, want)
	}
}
