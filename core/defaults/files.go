package defaults

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Files are the configuration files beside the args files, by path below the
// root folder.
func (n Node) Files() (map[string][]byte, error) {
	flannel, err := n.flannelConfig()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"args/containerd.toml":            []byte(n.containerd()),
		"args/kubelet-config.yaml":        []byte(n.kubeletConfig()),
		"args/cni-network/mk.conflist.in": []byte(n.cniTemplate()),
		"args/flannel-network-mgr-config": flannel,
	}, nil
}

// kubeletConfig holds what has no flag, or only a deprecated one.
func (n Node) kubeletConfig() string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("apiVersion: kubelet.config.k8s.io/v1beta1")
	line("kind: KubeletConfiguration")
	if n.Machine.CgroupV1 {
		line("failCgroupV1: false")
	}
	if n.Machine.Systemd {
		line("cgroupDriver: systemd")
	} else {
		line("cgroupDriver: cgroupfs")
		line("cgroupRoot: %s", n.Root.CgroupRoot())
	}
	line("containerRuntimeEndpoint: unix://%s", n.ContainerdSocket())
	line("authentication:")
	line("  anonymous: {enabled: false}")
	line("  webhook: {enabled: true}")
	line("  x509: {clientCAFile: %q}", n.Root.Certs("client-ca.crt"))
	line("authorization: {mode: Webhook}")
	line("tlsCertFile: %q", n.Root.Certs("kubelet.crt"))
	line("tlsPrivateKeyFile: %q", n.Root.Certs("kubelet.key"))
	line("readOnlyPort: 0")
	line("failSwapOn: false")
	line("serializeImagePulls: false")
	line("resolvConf: %q", n.Machine.ResolvConf)
	line("podLogsDir: %q", n.PodLogs())
	line("volumePluginDir: %q", n.Root.Path("var/lib/kubelet/volumeplugins"))
	line("evictionHard: {memory.available: 100Mi, nodefs.available: 1Gi, imagefs.available: 1Gi}")
	return b.String()
}

func (n Node) containerd() string {
	quote := func(s string) string { return "'" + s + "'" } // TOML literal: paths hold no quotes, node.Create saw to it
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("version = 4")
	line("root = %s", quote(n.Root.Path("var/lib/containerd")))
	line("state = %s", quote(n.Root.RunDir("containerd")))
	line("disabled_plugins = [")
	for _, p := range []string{
		"io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.blockfile",
		"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs",
		"io.containerd.snapshotter.v1.zfs", "io.containerd.image-verifier.v1.bindir",
	} {
		line("  %s,", quote(p))
	}
	line("]")
	line("[plugins.'io.containerd.server.v1.grpc']")
	line("  address = %s", quote(n.ContainerdSocket()))
	if gid := n.Root.GID(); gid > 0 { // the admin group asks, too
		line("  gid = %d", gid)
	}
	line("[plugins.'io.containerd.server.v1.ttrpc']")
	line("  address = %s", quote(n.ContainerdSocket()+".ttrpc"))
	line("[plugins.'io.containerd.shim.v1.manager']")
	line("  socket_dir = %s", quote(n.Root.RunDir("s")))
	line("[plugins.'io.containerd.cri.v1.images']")
	line("  snapshotter = 'overlayfs'")
	line("  [plugins.'io.containerd.cri.v1.images'.pinned_images]")
	line("    sandbox = %s", quote(n.PauseImage))
	line("  [plugins.'io.containerd.cri.v1.images'.registry]")
	line("    config_path = %s", quote(n.Root.Path("args/certs.d")))
	line("[plugins.'io.containerd.cri.v1.runtime']")
	line("  netns_mounts_under_state_dir = true")
	line("  disable_apparmor = %t", !n.Machine.AppArmor)
	line("  restrict_oom_score_adj = %t", !n.Machine.OOMAdjustable)
	line("  tolerate_missing_hugetlb_controller = true")
	line("  [plugins.'io.containerd.cri.v1.runtime'.containerd]")
	line("    default_runtime_name = 'runc'")
	line("    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]")
	line("      runtime_type = 'io.containerd.runc.v2'")
	line("      runtime_path = %s", quote(n.Programs.Bin("containerd-shim-runc-v2")))
	line("      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]")
	line("        BinaryName = %s", quote(n.Programs.Bin("runc")))
	line("        SystemdCgroup = %t", n.Machine.Systemd)
	line("        Root = %s", quote(n.Root.RunDir("runc")))
	line("  [plugins.'io.containerd.cri.v1.runtime'.cni]")
	line("    bin_dirs = [%s]", quote(n.Programs.CNI()))
	line("    conf_dir = %s", quote(n.Root.Path("args/cni-network")))
	line("    conf_template = %s", quote(n.Root.Path("args/cni-network/mk.conflist.in")))
	line("[plugins.'io.containerd.grpc.v1.cri']")
	line("  stream_server_address = '127.0.0.1'")
	line("  stream_server_port = '0'")
	return b.String()
}

// mtu leaves room for the header of VXLAN over IPv4.
const mtu = 1450

// cniTemplate is filled in by containerd once the kubelet knows the node's pod
// CIDR; flanneld only routes between nodes.
func (n Node) cniTemplate() string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "mk",
  "plugins": [
    {
      "type": "bridge",
      "bridge": %q,
      "isGateway": true,
      "hairpinMode": true,
      "ipMasq": false,
      "mtu": %d,
      "ipam": {
        "type": "host-local",
        "dataDir": %q,
        "ranges": [{{range $i, $r := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$r}}"}]{{end}}],
        "routes": [{{range $i, $r := .Routes}}{{if $i}}, {{end}}{"dst": "{{$r}}"}{{end}}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
    {"type": "bandwidth", "capabilities": {"bandwidth": true}}
  ]
}
`, Bridge, mtu, n.Root.Path("var/lib/cni"))
}

// Bridge is the bridge that pods are connected to.
const Bridge = "cni0"

func (n Node) flannelConfig() ([]byte, error) {
	type backend struct {
		Type string `json:"Type"`
		Port int    `json:"Port,omitempty"`
	}
	config := struct {
		Network    string  `json:"Network"`
		EnableIPv4 bool    `json:"EnableIPv4"`
		Backend    backend `json:"Backend"`
	}{Network: strings.Split(n.Record.Network.PodCIDR, ",")[0], EnableIPv4: true, Backend: backend{Type: n.backend()}}
	data, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write flannel's configuration: %w", err)
	}
	return append(data, '\n'), nil
}

func (n Node) backend() string {
	if n.Record.Network.CNI != "" {
		return n.Record.Network.CNI
	}
	return "vxlan"
}
