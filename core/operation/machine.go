package operation

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/remains"
)

// prepareMachine makes what services need outside the root folder: the folder
// for sockets, cgroups where no systemd makes them, and forwarding. What the
// kernel's settings were is noted first.
func prepareMachine(root *node.Root, m defaults.Machine) error {
	if err := os.MkdirAll(root.RunDir(), 0o711); err != nil { //nolint:gosec // plugins pass through to their own
		return fmt.Errorf("make the folder for sockets: %w", err)
	}
	if err := remains.NewKernel(root).Note(); err != nil {
		return err
	}
	if err := forwarding(); err != nil {
		return err
	}
	if m.Systemd {
		return nil
	}
	if m.CgroupV1 {
		return cgroupsV1(root.CgroupRoot())
	}
	return cgroupsV2(root.CgroupRoot())
}

// machineLines say what prepareMachine would change.
func machineLines(root *node.Root, m defaults.Machine) []change.Line {
	var out []change.Line
	missing := func(name string) {
		if _, err := os.Lstat(name); err != nil {
			out = append(out, change.Line{Verb: "make folder", Target: name, Effect: "create"})
		}
	}
	missing(root.RunDir())
	if !forwards() {
		out = append(out, change.Line{Verb: "set kernel setting", Target: "net.ipv4.ip_forward", Effect: "replace", Why: "packets of pods pass"})
	}
	if _, err := root.Lstat(remains.KernelFile); err != nil {
		out = append(out, change.Line{Verb: "write file", Target: remains.KernelFile, Effect: "create", Why: "what the kernel's settings are", Paths: []string{remains.KernelFile}})
	}
	if !m.Systemd && !m.CgroupV1 {
		missing(filepath.Join(cgroupRoot, root.CgroupRoot()))
	}
	return out
}

const forwardFile = "/proc/sys/net/ipv4/ip_forward"

// forwards reports whether packets pass, or there is no IPv4.
func forwards() bool {
	data, err := os.ReadFile(forwardFile)
	return err != nil || strings.TrimSpace(string(data)) == "1"
}

// forwarding lets packets of pods through.
func forwarding() error {
	if forwards() {
		return nil
	}
	if err := os.WriteFile(forwardFile, []byte("1"), 0o644); err != nil { //nolint:gosec,forbidigo // a kernel setting, not a file
		return fmt.Errorf("let packets of pods through: %w", err)
	}
	return nil
}

const cgroupRoot = "/sys/fs/cgroup"

// cgroupsV1 makes the kubelet's cgroup in every hierarchy. A new cpuset has no
// processors, and no process can enter it, until it is told which.
func cgroupsV1(name string) error {
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return fmt.Errorf("look at the cgroups: %w", err)
	}
	for _, e := range entries {
		hierarchy := filepath.Join(cgroupRoot, e.Name())
		if info, err := os.Stat(filepath.Join(hierarchy, "cgroup.procs")); err != nil || info.IsDir() {
			continue
		}
		dir := filepath.Join(hierarchy, name)
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a cgroup
			return fmt.Errorf("make the cgroup %s: %w", dir, err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inherit(hierarchy, dir, file); err != nil {
				return err
			}
		}
	}
	return nil
}

// inherit copies a cpuset from the hierarchy's root down to dir.
func inherit(hierarchy, dir, file string) error {
	value, err := os.ReadFile(filepath.Join(hierarchy, file))
	if err != nil {
		return nil // not the cpuset hierarchy
	}
	rel, err := filepath.Rel(hierarchy, dir)
	if err != nil {
		return fmt.Errorf("make the cgroup %s: %w", dir, err)
	}
	at := hierarchy
	for part := range strings.SplitSeq(rel, "/") {
		at = filepath.Join(at, part)
		have, err := os.ReadFile(filepath.Join(at, file))
		if err == nil && strings.TrimSpace(string(have)) != "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(at, file), value, 0o644); err != nil { //nolint:gosec,forbidigo // a cgroup's setting
			return fmt.Errorf("set %s of the cgroup %s: %w", file, at, err)
		}
	}
	return nil
}

// cgroupsV2 makes the kubelet's cgroup and lets it divide every controller.
func cgroupsV2(name string) error {
	dir := filepath.Join(cgroupRoot, name)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a cgroup
		return fmt.Errorf("make the cgroup %s: %w", dir, err)
	}
	for at := filepath.Dir(dir); strings.HasPrefix(at, cgroupRoot); at = filepath.Dir(at) {
		controllers, err := os.ReadFile(filepath.Join(at, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("look at the cgroup %s: %w", at, err)
		}
		for c := range strings.FieldsSeq(string(controllers)) {
			// A controller that cannot be divided here is missed by the kubelet,
			// which says so better than this would.
			_ = os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+c), 0o644) //nolint:gosec,forbidigo // a cgroup's setting
		}
	}
	return nil
}
