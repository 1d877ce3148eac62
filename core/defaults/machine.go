package defaults

import (
	"bufio"
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what the defaults depend on that differs between machines.
type Machine struct {
	CgroupV1       bool   // controllers are in v1 hierarchies
	Systemd        bool   // systemd runs the host and owns the cgroups
	AppArmor       bool   // profiles can be loaded
	OOMAdjustable  bool   // CAP_SYS_RESOURCE: scores may be lowered
	ConntrackFixed bool   // the table's size cannot be changed
	ResolvConf     string // what pods with the host's DNS get
}

// Detect looks at this machine. What cannot be found out is taken as the more
// careful answer.
func Detect() Machine {
	return Machine{
		CgroupV1:       !unified(),
		Systemd:        exists("/run/systemd/system"),
		AppArmor:       apparmor(),
		OOMAdjustable:  capable(unix.CAP_SYS_RESOURCE),
		ConntrackFixed: !writable("/proc/sys/net/netfilter/nf_conntrack_max"),
		ResolvConf:     resolvConf("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"),
	}
}

func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

func apparmor() bool {
	data, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(data), "Y") && exists("/sbin/apparmor_parser")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func writable(path string) bool { return unix.Access(path, unix.W_OK) == nil }

func capable(capability int) bool {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		if value, ok := strings.CutPrefix(sc.Text(), "CapEff:\t"); ok {
			return hexBit(value, capability)
		}
	}
	return false
}

// hexBit tells whether a bit of a hexadecimal mask is set.
func hexBit(mask string, bit int) bool {
	i := len(mask) - 1 - bit/4
	if i < 0 {
		return false
	}
	const digits = "0123456789abcdef"
	d := strings.IndexByte(digits, mask[i])
	return d >= 0 && d>>(bit%4)&1 == 1
}

// resolvConf is the host's resolver file, or that behind a local stub: pods
// cannot reach a resolver on the host's loopback.
func resolvConf(host, behind string) string {
	data, err := os.ReadFile(host)
	if err == nil && onlyLoopback(data) && exists(behind) {
		return behind
	}
	return host
}

func onlyLoopback(data []byte) bool {
	found := false
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if !strings.HasPrefix(fields[1], "127.") && fields[1] != "::1" {
			return false
		}
		found = true
	}
	return found
}
