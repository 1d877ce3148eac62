package remains

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"mk8s.io/mk/core/node"
)

// Setting is a setting of the kernel, by its path below /proc/sys.
type Setting struct{ Name, Value string }

// The kernel changes the second one whenever the first one is changed.
const (
	forward   = "net/ipv4/ip_forward"
	redirects = "net/ipv4/conf/all/accept_redirects"
)

// made are the settings that a node makes: mk lets packets pass; the kubelet
// wants its tunables (pkg/kubelet/cm, setupKernelTunables); kube-proxy has
// connections known for so long, and NodePorts on loopback. Usual is what the
// kernel begins with where the module of a setting is loaded later.
func made() []struct{ name, value, usual string } {
	return []struct{ name, value, usual string }{
		{forward, "1", ""},
		{redirects, "", ""},
		{"net/ipv6/conf/all/forwarding", "1", ""},
		{"net/ipv4/conf/all/route_localnet", "1", ""},
		{"net/netfilter/nf_conntrack_tcp_timeout_established", "86400", "432000"},
		{"net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3600", "60"},
		{"vm/overcommit_memory", "1", ""},
		{"vm/panic_on_oom", "0", ""},
		{"kernel/panic", "10", ""},
		{"kernel/panic_on_oops", "1", ""},
		{"kernel/keys/root_maxkeys", "1000000", ""},
		{"kernel/keys/root_maxbytes", "25000000", ""},
	}
}

// Kernel keeps what the kernel's settings were before a node's first start.
type Kernel struct {
	// File is in the node's folder: it outlasts a restart of the machine, where
	// the services may have started before anybody can look.
	File string
	// Link leads to File from the node's folder for sockets, beside those of
	// the machine's other nodes: what one of them found is older than what this
	// one finds.
	Link string
	// Routes reports whether packets of somebody else pass through the machine.
	Routes func() bool
	// Sys is /proc/sys.
	Sys string
}

// KernelFile is Kernel's, by its name in the node's folder.
const KernelFile = "var/kernel.json"

// NewKernel is the kernel as a node finds it that has these interfaces.
func NewKernel(root *node.Root, links ...string) Kernel {
	return Kernel{File: root.Path(KernelFile), Link: root.RunDir("kernel.json"), Routes: func() bool { return routes(links) }, Sys: "/proc/sys"}
}

// found is File's content.
type found struct {
	Network string            `json:"network"` // its namespace, which the settings below net/ are of
	Before  map[string]string `json:"before"`
}

// of is what a setting was, if a node in that network can tell.
func (f found) of(name, network string) (string, bool) {
	if strings.HasPrefix(name, "net/") && f.Network != network {
		return "", false
	}
	v, ok := f.Before[name]
	return v, ok
}

// Note notes what the settings are. What was noted stays.
func (k Kernel) Note() error {
	if err := os.Symlink(k.File, k.Link); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("note the kernel's settings: %w", err)
	}
	if _, err := os.Lstat(k.File); err == nil {
		return nil
	}
	network, others, err := k.others()
	if err != nil {
		return err
	}
	now := found{Network: network, Before: map[string]string{}}
	for _, s := range made() {
		value, ok := k.read(s.name)
		if !ok {
			value = s.usual
		}
		for _, o := range others {
			if v, ok := o.of(s.name, network); ok {
				value = v
			}
		}
		if value != "" {
			now.Before[s.name] = value
		}
	}
	data, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return fmt.Errorf("note the kernel's settings: %w", err)
	}
	return node.WriteFile(k.File, append(data, '\n'), node.Perm{Mode: 0o600})
}

// Changed are the settings that are to be as before: those that have the value
// which a node gives them, and that nobody else needs so.
func (k Kernel) Changed() []Setting {
	before, ok := readFound(k.File)
	network, others, err := k.others()
	if !ok || err != nil {
		return nil
	}
	routed, asked := k.Routes(), configured()
	var out []Setting
	for _, s := range made() {
		was, ok := before.of(s.name, network)
		now, _ := k.read(s.name)
		passes, _ := k.read(forward)
		switch {
		case !ok, was == now, s.value != "" && now != s.value:
		case s.name == redirects && (passes == "1" || before.Before[forward] == "1"): // not the node's doing, or not yet
		case routed && strings.Contains(s.name, "forward"):
		case asked[s.name]:
		case slices.ContainsFunc(others, func(o found) bool { _, needs := o.of(s.name, network); return needs }):
		default:
			out = append(out, Setting{s.name, was})
		}
	}
	return out
}

// Restore makes the settings as before, and forgets them. An error names what
// could not be set; it is forgotten, too.
func (k Kernel) Restore() error {
	var errs []error
	for range 2 { // one changes with another
		errs = nil
		for _, s := range k.Changed() {
			if err := os.WriteFile(filepath.Join(k.Sys, s.Name), []byte(s.Value), 0o644); err != nil { //nolint:gosec,forbidigo // a kernel setting, not a file
				errs = append(errs, fmt.Errorf("set the kernel's %s back to %s: %w", s.Name, s.Value, err))
			}
		}
	}
	for _, name := range []string{k.Link, k.File} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("forget the kernel's settings: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (k Kernel) read(name string) (string, bool) {
	data, err := os.ReadFile(filepath.Join(k.Sys, name))
	return string(bytes.TrimSpace(data)), err == nil
}

// others are what the machine's other nodes found, and this network's name.
func (k Kernel) others() (network string, out []found, err error) {
	network, err = os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", nil, fmt.Errorf("look at the kernel's settings: %w", err)
	}
	if host, err := os.Readlink("/proc/1/ns/net"); err == nil && host == network {
		network = "host" // its number is another one when the machine has restarted
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(k.Link)), "*", filepath.Base(k.Link)))
	if err != nil {
		return "", nil, fmt.Errorf("look at the kernel's settings: %w", err)
	}
	for _, f := range files {
		if o, ok := readFound(f); ok && f != k.Link {
			out = append(out, o)
		}
	}
	return network, out, nil
}

// readFound reads what a node found; what cannot be read tells nothing.
func readFound(name string) (found, bool) {
	var out found
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	return out, err == nil
}

// routes reports whether the machine has a bridge or a tunnel that is not the
// node's.
func routes(own []string) bool {
	all, err := links()
	return err != nil || slices.ContainsFunc(all, func(l netlink.Link) bool {
		plain := []string{"device", "veth", "bond", "team", "vlan", "dummy", "ifb"}
		return l.Attrs().Flags&net.FlagUp != 0 && !slices.Contains(plain, l.Type()) && !slices.Contains(own, l.Attrs().Name)
	})
}

// configured are the settings that somebody wants to have a value when the
// machine starts.
func configured() map[string]bool {
	out := map[string]bool{}
	files, _ := filepath.Glob("/etc/sysctl.d/*.conf") // the pattern is right
	for _, name := range append(files, "/etc/sysctl.conf") {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			key, _, ok := strings.Cut(line, "=")
			if key = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(key), "-")); ok && !strings.HasPrefix(key, "#") && !strings.HasPrefix(key, ";") {
				out[strings.ReplaceAll(key, ".", "/")] = true
			}
		}
	}
	return out
}
