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

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

// minFree is what a node needs at least: its images, logs and datastore.
const minFree = 2 << 30

// Preflight finds what would keep a first start from succeeding, before
// anything is written. A node that exists already is not looked at.
func Preflight(ctx context.Context, o Options, s StartOptions) error {
	if _, err := os.Stat(filepath.Join(o.Root, "node.json")); err == nil {
		return nil
	}
	if err := pki.CheckClock(o.Now(), o.Built); err != nil {
		return err
	}
	if s.Name != "" {
		if err := pki.CheckNodeName(s.Name); err != nil {
			return plugin.Errorf(plugin.BadArgument, "--name %s: %v", s.Name, err)
		}
	}
	if s.Auth != "" && s.Auth != string(node.X509) && s.Auth != string(node.Token) {
		return plugin.Errorf(plugin.BadArgument, "--auth %q is not one of x509, token", s.Auth)
	}
	if err := checkNetwork(s); err != nil {
		return err
	}
	if err := passable(o.Root); err != nil {
		return err
	}
	if err := freeSpace(o.Root); err != nil {
		return err
	}
	return freePorts(ctx)
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

// ports are those that a node listens on.
func ports() map[int]string {
	return map[int]string{
		16443: "the API server", 10250: "the kubelet", 12379: "the datastore", 2380: "the datastore's peers",
		10257: "the controller manager", 10259: "the scheduler", 10256: "kube-proxy", 10249: "kube-proxy", 10248: "the kubelet",
	}
}

// freePorts finds who else listens where the node would: most often another
// Kubernetes.
func freePorts(ctx context.Context) error {
	for port, what := range ports() {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(port)))
		if err == nil {
			if err := l.Close(); err != nil {
				return fmt.Errorf("look at port %d: %w", port, err)
			}
			continue
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("look at port %d: %w", port, err)
		}
		return &PortError{Port: port, For: what, By: holder(port)}
	}
	return nil
}

// PortError says that a port is taken, and by whom.
type PortError struct {
	Port int
	For  string
	By   string // program and pid; empty where nobody says
}

// Error names the port.
func (e *PortError) Error() string { return fmt.Sprintf("port %d is taken", e.Port) }

// holder finds the process that listens on a port.
func holder(port int) string {
	inodes := map[string]bool{}
	for _, f := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		suffix := fmt.Sprintf(":%04X", port)
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) > 9 && strings.HasSuffix(fields[1], suffix) && fields[3] == "0A" {
				inodes["socket:["+fields[9]+"]"] = true
			}
		}
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || !inodes[target] {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		exe, err := os.Readlink("/proc/" + pid + "/exe")
		if err != nil {
			exe = "a process"
		}
		return fmt.Sprintf("%s (pid %s)", exe, pid)
	}
	return ""
}
