package operation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/neighbour"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

// minFree is what a node needs at least: its images, logs and datastore.
const minFree = 2 << 30

// Check is one thing that a preflight looked at.
type Check struct {
	Name string
	Err  error // what would keep the node from starting
}

// Preflight finds what would keep a first start from succeeding, before
// anything is written. Where a node exists already, only another Kubernetes is
// looked for: everything else is that node's own by now.
func Preflight(ctx context.Context, o Options, s StartOptions) error {
	if _, err := os.Stat(filepath.Join(o.Root, "node.json")); err == nil {
		return noNeighbour(o)
	}
	for _, c := range Checks(ctx, o, s, node.ControlPlane) {
		if c.Err != nil {
			return c.Err
		}
	}
	return nil
}

// Checks looks at this machine as one on which a node of a role is to start.
func Checks(ctx context.Context, o Options, s StartOptions, role node.Role) []Check {
	return []Check{
		{"clock", pki.CheckClock(o.Now(), o.Built)},
		{"options", checkOptions(s)},
		{"folders", passable(o.Root)},
		{"disk", freeSpace(o.Root)},
		{"ports", freePorts(ctx, o.Root, role)},
		{"another Kubernetes", noNeighbour(o)},
	}
}

func checkOptions(s StartOptions) error {
	if s.Name != "" {
		if err := pki.CheckNodeName(s.Name); err != nil {
			return plugin.Errorf(plugin.BadArgument, "--name %s: %v", s.Name, err)
		}
	}
	if s.Auth != "" && s.Auth != string(node.X509) && s.Auth != string(node.Token) {
		return plugin.Errorf(plugin.BadArgument, "--auth %q is not one of x509, token", s.Auth)
	}
	return checkNetwork(s)
}

// passable checks the folders above the root: plugins run as users of their
// own and must be able to pass through to theirs.
func passable(dir string) error {
	for dir = filepath.Dir(dir); dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", dir, err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return plugin.Errorf(plugin.NotPossible,
				"plugins cannot pass through %s (mode %04o): they run as users of their own; chmod o+x it, or choose another --root", dir, info.Mode().Perm())
		}
	}
	return nil
}

func checkNetwork(s StartOptions) error {
	for flag, cidr := range map[string]string{"--pod-cidr": s.PodCIDR, "--service-cidr": s.ServiceCIDR} {
		for part := range strings.SplitSeq(cidr, ",") {
			if _, _, err := net.ParseCIDR(part); part != "" && err != nil {
				return plugin.Errorf(plugin.BadArgument, "%s %q is not a range of addresses", flag, part)
			}
		}
	}
	if s.Address != "" && net.ParseIP(s.Address) == nil {
		return plugin.Errorf(plugin.BadArgument, "--address %q is not an IP address", s.Address)
	}
	switch s.CNI {
	case "", "vxlan", "host-gw", "wireguard":
		return nil
	}
	return plugin.Errorf(plugin.BadArgument, "--cni %q is not one of vxlan, host-gw, wireguard", s.CNI)
}

// freeSpace looks at the disk of the nearest folder that exists.
func freeSpace(dir string) error {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if errors.Is(err, unix.ENOENT) && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return fmt.Errorf("look at the disk of %s: %w", dir, err)
		}
		if st.Flags&unix.ST_RDONLY != 0 {
			return plugin.Errorf(plugin.NotPossible, "%s is on a read-only disk", dir)
		}
		if free := st.Bavail * uint64(st.Bsize); free < minFree { //nolint:gosec // a block size
			return plugin.Errorf(plugin.NotPossible, "the disk of %s has %d MiB free, a node needs %d", dir, free>>20, minFree>>20)
		}
		return nil
	}
}

// freePorts finds who else listens where the node would. An agent that listens
// elsewhere than usual says so in its args.
func freePorts(ctx context.Context, root string, role node.Role) error {
	for _, p := range defaults.Ports(role, node.DefaultNetwork(), AgentPort(root)) {
		if p.Protocol != "tcp" {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(p.Number)))
		if err == nil {
			if err := l.Close(); err != nil {
				return fmt.Errorf("look at port %d: %w", p.Number, err)
			}
			continue
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("look at port %d: %w", p.Number, err)
		}
		return portTaken(p, root)
	}
	return nil
}

// AgentPort is where the agent of a root folder listens: what its args say, or
// what is usual. It asks nobody, and there need be no node.
func AgentPort(root string) int {
	if f, err := args.Load(filepath.Join(root, "args", defaults.Agent)); err == nil {
		if bind, ok := f.Get("bind"); ok {
			if port := portOf(bind); port > 0 {
				return port
			}
		}
	}
	return node.DefaultNetwork().AgentPort
}

// portOf is the port of an address to listen on, or 0.
func portOf(bind string) int {
	port, err := strconv.Atoi(bind[strings.LastIndexByte(bind, ':')+1:])
	if err != nil || port < 1 || port > 65535 {
		return 0
	}
	return port
}

// portTaken says by whom, and of which Kubernetes that is.
func portTaken(p defaults.Port, root string) error {
	e := &PortError{Port: p.Number, For: p.Service}
	holder, known := neighbour.PortHolders(p.Number)[p.Number]
	if known {
		e.By = holder.String()
	}
	for _, f := range neighbour.Kubernetes(root) {
		if known && f.PID == holder.PID {
			e.Kubernetes = &f
		}
	}
	return e
}

// PortError says that a port is taken, and by whom.
type PortError struct {
	Port       int
	For        string
	By         string           // program and pid; empty where nobody says
	Kubernetes *neighbour.Found // whose program that is, where it is one of Kubernetes
}

// Error names the port.
func (e *PortError) Error() string { return fmt.Sprintf("port %d is taken", e.Port) }

// NeighbourError says that another Kubernetes runs on this machine.
type NeighbourError struct{ Found neighbour.Found }

// Error names it.
func (e *NeighbourError) Error() string {
	return "another Kubernetes runs on this machine: " + e.Found.String()
}

// noNeighbour refuses a machine on which another Kubernetes runs, unless the
// settings accept it: both write the packet filter and own the same ports.
func noNeighbour(o Options) error {
	set, _, err := readSettings(o, o.settingsFile())
	if err != nil {
		return err
	}
	accept, err := set.Get("accept-other-kubernetes")
	if err != nil {
		return err
	}
	ours := []string{o.Root}
	if p, err := node.FindPrograms(o.Executable); err == nil {
		ours = append(ours, p.Dir())
	}
	for _, f := range neighbour.Kubernetes(ours...) {
		if f.PID != 0 && accept.Value != "true" {
			return &NeighbourError{f}
		}
	}
	return nil
}

// WaitClock waits until the clock stands where a certificate may be made, no
// longer than the setting clock-wait: a machine without a battery gets its time
// from the network a moment after it has started. say is told what it waits for.
func WaitClock(ctx context.Context, o Options, say func(string)) error {
	set, _, err := readSettings(o, o.settingsFile())
	if err != nil {
		return err
	}
	limit, err := set.Duration("clock-wait")
	if err != nil {
		return err
	}
	late, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for told := false; ; told = true {
		err := pki.CheckClock(o.Now(), clockFloor(o))
		if err == nil {
			return nil
		}
		if !told && limit > 0 {
			say(fmt.Sprintf("waiting up to %s for the clock: it says %s", limit, o.Now().UTC().Format(time.RFC3339)))
		}
		select {
		case <-tick.C:
		case <-late.Done():
			return errors.Join(ctx.Err(), err) // whoever pressed Ctrl-C is told so
		}
	}
}

// clockFloor is what time it is at least, by mk's build and the certificates
// on disk.
func clockFloor(o Options) time.Time {
	var pems [][]byte
	for _, p := range pki.Profiles() {
		if p.CertFile() == "" {
			continue
		}
		if data, err := os.ReadFile(filepath.Join(o.Root, p.CertFile())); err == nil {
			pems = append(pems, data)
		}
	}
	return pki.ClockFloor(o.Built, pki.NewestNotBefore(pems...))
}
