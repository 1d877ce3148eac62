package pluginhost

import (
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a rule may allow on a file that is no folder.
const onFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
	unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE

const (
	landRead  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landRun   = landRead | unix.LANDLOCK_ACCESS_FS_EXECUTE
	landWrite = landRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// systemRun and systemRead are what programs of any language need: their
// interpreters and libraries, name resolution, authorities, the time zone.
// /proc is not among them, which would show the host's processes.
func systemRun() []string {
	return append(matches("/lib*"), "/usr", "/bin", "/sbin", "/opt")
}

func systemRead() []string {
	return append(matches("/etc/ld.so*", "/etc/python*"), "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives",
		"/etc/localtime", "/etc/timezone", "/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/gai.conf",
		"/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group", "/etc/mime.types", "/etc/os-release",
		"/proc/sys", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/filesystems",
		"/sys/kernel/mm", "/sys/devices/system/cpu", "/dev/random", "/dev/urandom", "/dev/zero")
}

func matches(patterns ...string) []string {
	var all []string
	for _, p := range patterns {
		found, _ := filepath.Glob(p) // the patterns are ours and right
		all = append(all, found...)
	}
	return all
}

// restrictFiles has the kernel's Landlock confine the calling thread, and what
// it forks, to the system's programs and the plugin's own folders. Where the
// kernel has no Landlock, or refuses, file permissions alone hold: it never
// fails.
func restrictFiles(f folders, network bool) {
	abi := landlockVersion()
	if abi == 0 {
		return
	}
	handled := handledBy(abi)
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	if abi >= 4 && network {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP // a plugin serves nobody but the host
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0) //nolint:gosec // a system call
	if errno != 0 {
		return
	}
	ruleset := int(fd)        //nolint:gosec // a descriptor
	defer unix.Close(ruleset) //nolint:errcheck // nothing was written
	for access, paths := range map[uint64][]string{
		landRun:   append(systemRun(), f.read...),
		landRead:  systemRead(),
		landWrite: f.write,
		unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE: {os.DevNull},
	} {
		for _, p := range paths {
			allow(ruleset, p, access&handled)
		}
	}
	_, _, _ = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0)
}

// landlockVersion is 0 where the kernel has no Landlock.
func landlockVersion() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi) //nolint:gosec // a small number
}

// handledBy is what a version of Landlock can restrict.
func handledBy(abi int) uint64 {
	all := uint64(unix.LANDLOCK_ACCESS_FS_TRUNCATE)<<1 - 1 // the first 15 rights, in the order they came
	if abi < 3 {
		all &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi < 2 {
		all &^= unix.LANDLOCK_ACCESS_FS_REFER
	}
	return all
}

// allow adds a rule for a path; one that is not there needs none.
func allow(ruleset int, path string, access uint64) {
	if path == "" {
		return
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd) //nolint:errcheck // opened as a path only
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= onFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}                                                              //nolint:gosec // a descriptor
	_, _, _ = unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0) //nolint:gosec // a system call
}
