package defaults

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
)

func newNode(t *testing.T, change func(*node.Record)) Node {
	t.Helper()
	root, err := node.Create(filepath.Join(t.TempDir(), "mk"), node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	rec := node.NewRecord("n1", time.Unix(1, 0))
	rec.Address = "10.0.0.5"
	if change != nil {
		change(rec)
	}
	return Node{Root: root, Record: rec, PauseImage: "pause:1"}
}

// option is an option's value, and whether it is there once.
func option(t *testing.T, options []Option, name string) string {
	t.Helper()
	var found []string
	for _, o := range options {
		if o.Name == name {
			found = append(found, o.Value)
		}
	}
	if len(found) > 1 {
		t.Errorf("--%s is there %d times", name, len(found))
	}
	return strings.Join(found, " ")
}

func TestArguments(t *testing.T) {
	t.Parallel()
	worker := func(r *node.Record) { r.Role = node.Worker }
	for name, c := range map[string]struct {
		change                func(*node.Record)
		service, option, want string
	}{
		"the address is advertised": {nil, "kube-apiserver", "advertise-address", "10.0.0.5"},
		"IPv4 listens on IPv4":      {nil, "kube-apiserver", "bind-address", "0.0.0.0"},
		"IPv6 listens on both":      {func(r *node.Record) { r.Address = "fd00::5" }, "kube-apiserver", "bind-address", "::"},
		"no token file by default":  {nil, "kube-apiserver", "token-auth-file", ""},
		"tokens where they are wanted": {
			func(r *node.Record) { r.Auth = node.Token }, "kube-apiserver", "token-auth-file", "credentials/known_tokens.csv"},
		"clients have a bundle of their own": {nil, "kube-apiserver", "client-ca-file", "certs/client-ca.crt"},
		"the scheduler's pair is reloaded":   {nil, "kube-scheduler", "tls-cert-file", "certs/server.crt"},
		"the managers' pair is reloaded":     {nil, "kube-controller-manager", "tls-cert-file", "certs/server.crt"},
		"dns is named before it is there":    {nil, "kubelet", "cluster-dns", "10.152.183.10"},
		"a control plane starts one":         {nil, "kubelite", "start-control-plane", "true"},
		"a worker starts none":               {worker, "kubelite", "start-control-plane", "false"},
		"a worker names no API server":       {worker, "kubelite", "apiserver-args-file", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, c.change)
			got := strings.TrimPrefix(option(t, n.Arguments()[c.service], c.option), n.Root.Dir()+"/")
			if got != c.want {
				t.Errorf("--%s of %s is %q, not %q", c.option, c.service, got, c.want)
			}
		})
	}
}

// TestNoAuthoritysKeyOnAnyFlag: mk signs, through a plugin.
func TestNoAuthoritysKeyOnAnyFlag(t *testing.T) {
	t.Parallel()
	for s, options := range newNode(t, nil).Arguments() {
		for _, o := range options {
			if strings.HasPrefix(o.Name, "cluster-signing") || strings.HasSuffix(o.Value, "ca.key") {
				t.Errorf("%s has --%s=%s", s, o.Name, o.Value)
			}
		}
	}
}

// TestRenderedIsRead: what is written is what a service gets.
func TestRenderedIsRead(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	for s, options := range n.Arguments() {
		if !args.ValidService(s) {
			t.Errorf("%q is no args file", s)
		}
		f, err := args.Parse(Render(s, options))
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		var want []string
		for _, o := range options {
			if o.Bare {
				want = append(want, "--"+o.Name)
			} else {
				want = append(want, "--"+o.Name+"="+o.Value)
			}
		}
		if got := f.Argv(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, not %q", s, got, want)
		}
	}
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	for role, want := range map[node.Role][]string{
		node.ControlPlane: {Containerd, Etcd, Kubelite, Flanneld, Agent}, node.Worker: ServiceNames(node.Worker),
	} {
		n := newNode(t, func(r *node.Record) { r.Role = role })
		for s, options := range n.Arguments() {
			if err := n.Root.WriteFile("args/"+s, Render(s, options), n.Root.Secret()); err != nil {
				t.Fatal(err)
			}
		}
		defs, err := n.Definitions("/usr/bin/mk")
		if err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		var names []string
		for _, d := range defs {
			names = append(names, d.Name)
			for _, after := range d.After {
				if !slices.Contains(append(ServiceNames(node.Worker), ServiceNames(node.ControlPlane)...), after) {
					t.Errorf("%s starts after %s, which no node runs", d.Name, after)
				}
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s runs %v, not %v", role, names, want)
		}
		if role == node.ControlPlane {
			i := slices.Index(names, Containerd)
			if defs[i].KillMode != service.KillProcess {
				t.Error("stopping containerd ends the pods")
			}
		}
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		machine    Machine
		file, want string
	}{
		"systemd keeps the cgroups":   {Machine{Systemd: true}, "args/kubelet-config.yaml", "cgroupDriver: systemd"},
		"without it files do":         {Machine{}, "args/kubelet-config.yaml", "cgroupDriver: cgroupfs"},
		"old cgroups are allowed":     {Machine{CgroupV1: true}, "args/kubelet-config.yaml", "failCgroupV1: false"},
		"containerd follows":          {Machine{Systemd: true}, "args/containerd.toml", "SystemdCgroup = true"},
		"the sandbox is pinned":       {Machine{}, "args/containerd.toml", "sandbox = 'pause:1'"},
		"flannel knows the pods' net": {Machine{}, "args/flannel-network-mgr-config", "10.1.0.0/16"},
		"the bridge is ours":          {Machine{}, "args/cni-network/mk.conflist.in", `"bridge": "cni0"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, nil)
			n.Machine = c.machine
			files, err := n.Files()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(files[c.file]), c.want) {
				t.Errorf("%s has no %q:\n%s", c.file, c.want, files[c.file])
			}
		})
	}
}

// TestNothingIsSwitchedOff: whoever gives Kubernetes one more option says here
// why. Most say where something of this node is. The others choose what the
// program would not choose by itself, and none of them takes away what a
// conformance test would notice.
func TestNothingIsSwitchedOff(t *testing.T) {
	t.Parallel()
	chosen := map[string]string{
		"kube-apiserver/authorization-mode":                       "Node,RBAC: the program's own choice allows everything",
		"kube-apiserver/enable-admission-plugins":                 "NodeRestriction, beside those that are on by themselves",
		"kube-apiserver/allow-privileged":                         "true: the program's own choice refuses such pods",
		"kube-apiserver/kubelet-preferred-address-types":          "a node's name need not be in any DNS",
		"kube-apiserver/profiling":                                "false: no API, and a way to slow the server down",
		"kube-controller-manager/profiling":                       "as above",
		"kube-scheduler/profiling":                                "as above",
		"kube-controller-manager/bind-address":                    "nobody asks it from elsewhere",
		"kube-scheduler/bind-address":                             "as above",
		"kube-controller-manager/leader-elect":                    "there is one of it, unless there are several nodes",
		"kube-scheduler/leader-elect":                             "as above",
		"kube-controller-manager/allocate-node-cidrs":             "the pods' network wants a range for each node",
		"kube-controller-manager/use-service-account-credentials": "each controller with its own rights only",
		"kube-controller-manager/kube-api-qps":                    "its controllers start at once; more is let through, not less",
		"kube-controller-manager/kube-api-burst":                  "as above",
		"kube-proxy/proxy-mode":                                   "iptables, said because later versions may choose another",
	}
	ours := map[string]string{ // where things of this node are, and what it is called
		"kube-apiserver": "advertise-address bind-address secure-port service-cluster-ip-range client-ca-file tls-cert-file tls-private-key-file " +
			"kubelet-client-certificate kubelet-client-key kubelet-certificate-authority service-account-issuer service-account-key-file " +
			"service-account-signing-key-file requestheader-client-ca-file requestheader-allowed-names requestheader-username-headers " +
			"requestheader-group-headers requestheader-extra-headers-prefix proxy-client-cert-file proxy-client-key-file " +
			"etcd-servers etcd-cafile etcd-certfile etcd-keyfile",
		"kube-controller-manager": "kubeconfig authentication-kubeconfig authorization-kubeconfig service-account-private-key-file root-ca-file " +
			"tls-cert-file tls-private-key-file cluster-cidr service-cluster-ip-range",
		"kube-scheduler": "kubeconfig authentication-kubeconfig authorization-kubeconfig tls-cert-file tls-private-key-file",
		"kubelet":        "config kubeconfig hostname-override node-ip root-dir cert-dir node-labels cluster-dns cluster-domain",
		"kube-proxy":     "kubeconfig hostname-override cluster-cidr healthz-bind-address metrics-bind-address",
	}
	all := newNode(t, nil).Arguments()
	for service, known := range ours {
		for _, o := range all[service] {
			if key := service + "/" + o.Name; !slices.Contains(strings.Fields(known), o.Name) && chosen[key] == "" {
				t.Errorf("%s --%s=%s: say in this test why", service, o.Name, o.Value)
			} else {
				delete(chosen, key)
			}
		}
	}
	for key := range chosen {
		t.Errorf("%s is no option any more", key)
	}
	// What the kubelet has in its file instead.
	settings := "apiVersion kind failCgroupV1 cgroupDriver cgroupRoot containerRuntimeEndpoint authentication authorization tlsCertFile " +
		"tlsPrivateKeyFile resolvConf podLogsDir volumePluginDir " +
		"readOnlyPort " + // 0: its port without any authentication, which the program itself leaves closed
		"failSwapOn " + // false: machines have swap
		"serializeImagePulls " + // false: one slow image keeps no other one waiting
		"evictionHard" // in bytes: on large disks, the program's percentages are much
	n := newNode(t, nil)
	n.Machine = Machine{CgroupV1: true}
	files, err := n.Files()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(files["args/kubelet-config.yaml"])) {
		if key, _, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(key, " ") && !slices.Contains(strings.Fields(settings), key) {
			t.Errorf("args/kubelet-config.yaml sets %s: say in this test why", key)
		}
	}
}
