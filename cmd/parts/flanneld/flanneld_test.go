package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flannel-io/flannel/pkg/subnet"
)

// klog's flags are one set per process, so the cases of this test run one after the other.
func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, args string
		env        map[string]string
		check      func(options) bool
		err        string
	}{
		{name: "flags", args: "--kubeconfig-file=/k --node-name n --iface eth0 --iface eth1 --ip-masq --healthz-port 1",
			check: func(o options) bool {
				return o.kubeconfig == "/k" && o.nodeName == "n" && len(o.ifaces) == 2 && o.ipMasq && o.healthzPort == 1
			}},
		{name: "upstream's required flag", args: "--kube-subnet-mgr -kubeconfig-file=/k -node-name=n",
			check: func(o options) bool { return o.kubeconfig == "/k" }},
		{name: "environment", env: map[string]string{"FLANNELD_KUBECONFIG_FILE": "/e", "NODE_NAME": "n", "FLANNELD_IP_MASQ": "true"},
			check: func(o options) bool { return o.kubeconfig == "/e" && o.nodeName == "n" && o.ipMasq }},
		{name: "flag before environment", args: "--kubeconfig-file=/k --node-name=n", env: map[string]string{"FLANNELD_KUBECONFIG_FILE": "/e"},
			check: func(o options) bool { return o.kubeconfig == "/k" }},
		{name: "cleanup needs nothing else", args: "--cleanup", check: func(o options) bool { return o.cleanup }},
		{name: "nothing", err: "--node-name"},
		{name: "bad environment", args: "--cleanup", env: map[string]string{"FLANNELD_IP_MASQ": "perhaps"}, err: "FLANNELD_IP_MASQ"},
		{name: "bad port", args: "--kubeconfig-file=/k --node-name=n --healthz-port=70000", err: "70000"},
		{name: "argument", args: "--cleanup now", err: `"now"`},
		{name: "unknown flag", args: "--etcd-endpoints=x", err: "etcd-endpoints"},
	} {
		env := func(k string) (string, bool) { v, ok := c.env[k]; return v, ok }
		o, err := parseOptions(strings.Fields(c.args), env, io.Discard)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: the error is %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil || !c.check(o) {
			t.Errorf("%s: %+v, %v", c.name, o, err)
		}
	}
}

func TestSubnetFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "subnet.env")
	if p, err := readSubnetFile(path); err != nil || p != (previous{}) {
		t.Errorf("a missing file reads as %+v, %v", p, err)
	}
	config, err := subnet.ParseConfig(`{"Network":"10.1.0.0/16","IPv6Network":"fd00::/64","EnableIPv6":true,"Backend":{"Type":"vxlan"}}`)
	if err != nil {
		t.Fatal(err)
	}
	four, six := netip.MustParsePrefix("10.1.7.0/24"), netip.MustParsePrefix("fd00::7:0/112")
	if err := subnet.WriteSubnetFile(path, config, true, toIP4Net(four), toIP6Net(six), 1450); err != nil {
		t.Fatal(err)
	}
	got, err := readSubnetFile(path)
	want := previous{netip.MustParsePrefix("10.1.0.0/16"), four, netip.MustParsePrefix("fd00::/64"), six}
	if err != nil || got != want {
		t.Errorf("flannel's file reads as %+v, %v, want %+v", got, err, want)
	}
	if err := os.Truncate(path, maxSubnetFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readSubnetFile(path); err == nil {
		t.Error("a file that is too large is read")
	}
	for _, content := range []string{"FLANNEL_SUBNET=10.1.0.0", "FLANNEL_SUBNET=fd00::/64", "FLANNEL_IPV6_SUBNET=10.0.0.0/8", "x\nFLANNEL_NETWORK="} {
		if p, err := parseSubnetFile([]byte(content)); err == nil {
			t.Errorf("%q reads as %+v", content, p)
		}
	}
}

func FuzzSubnetFile(f *testing.F) {
	f.Add([]byte("FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"))
	f.Add([]byte("FLANNEL_IPV6_NETWORK=fd00::/64\nFLANNEL_IPV6_SUBNET=::ffff:1.2.3.4/100\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		p, err := parseSubnetFile(content)
		if err != nil {
			return
		}
		for _, prefix := range []netip.Prefix{p.network, p.subnet} {
			if prefix.IsValid() && !prefix.Addr().Is4() {
				t.Errorf("%s is not IPv4", prefix)
			}
			toIP4Net(prefix)
		}
		for _, prefix := range []netip.Prefix{p.network6, p.subnet6} {
			if prefix.IsValid() && prefix.Addr().Is4() {
				t.Errorf("%s is not IPv6", prefix)
			}
			toIP6Net(prefix)
		}
	})
}

func TestPollPodCIDRWaitsThroughErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := []struct {
			cidr string
			err  error
		}{{"", errors.New("refused")}, {"", nil}, {"10.1.0.0/24", nil}}
		asked := 0
		err := pollPodCIDR(t.Context(), func(context.Context) (string, error) {
			a := answers[asked]
			asked++
			return a.cidr, a.err
		})
		if err != nil || asked != 3 {
			t.Errorf("asked %d times, %v", asked, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		err = pollPodCIDR(ctx, func(context.Context) (string, error) { return "", nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without an answer: %v", err)
		}
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	status := func(path string) int {
		w := httptest.NewRecorder()
		health(&ready).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code
	}
	if got := status("/healthz"); got != http.StatusOK {
		t.Errorf("healthz is %d", got)
	}
	if got := status("/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("readyz is %d before it is ready", got)
	}
	ready.Store(true)
	if got := status("/readyz"); got != http.StatusOK {
		t.Errorf("readyz is %d when it is ready", got)
	}
}

func TestExternalInterfaceNamesEveryChoiceThatFailed(t *testing.T) {
	t.Parallel()
	config := &subnet.Config{EnableIPv4: true}
	_, err := externalInterface(options{ifaces: stringList{"no-such-interface"}, ifaceRegexes: stringList{"["}}, config)
	if err == nil || !strings.Contains(err.Error(), "no-such-interface") || !strings.Contains(err.Error(), "regex") {
		t.Errorf("the error names not every choice: %v", err)
	}
	if _, err := externalInterface(options{}, &subnet.Config{}); err == nil {
		t.Error("no address family is no error")
	}
}
