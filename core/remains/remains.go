// Package remains finds and removes what a node's pods leave on the machine
// when the programs that keep them have ended: processes, mounts, network
// namespaces, interfaces, cgroups and rules of the packet filter.
//
// Guaranteed: only what lies below the node's own folders, in its own cgroup,
// or carries the fixed names of its pod network is touched; everything is
// bounded by the context; what is not there is no error. Not guaranteed:
// anything while the node's services run.
package remains

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/service/process"
	"mk8s.io/mk/core/timer"
)

// Node says which remains are this node's.
type Node struct {
	Shim    string   // program of the shims
	Socket  string   // containerd's, which shims name on their command line
	Cgroup  string   // of all pods, below every hierarchy
	Runc    string   // where runc writes down its containers
	Systemd bool     // systemd keeps the cgroups
	Folders []string // below which mounts are this node's
	Links   []string // of its pod network
}

// Clear removes everything. It goes on past what it cannot remove and names it.
func Clear(ctx context.Context, n Node) error {
	containers, err := n.containers()
	// Shims before pods: a shim would report the end of its pod to nobody.
	errs := []error{
		err, n.killShims(ctx), killPods(ctx, append(n.cgroups(), containers...)), n.unmount(ctx), n.removeLinks(),
		n.removeSlices(ctx, containers), n.removeCgroups(ctx), clearRules(ctx),
	}
	return errors.Join(errs...)
}

// killShims ends the shims of this node's containerd.
func (n Node) killShims(ctx context.Context) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("look for shims: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && n.isShim(pid) {
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end shim %d: %w", pid, err)
		}
	}
	return waitFor(ctx, "shims end", func() bool {
		return !slices.ContainsFunc(pids, n.isShim)
	})
}

func (n Node) isShim(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || strings.TrimSuffix(exe, " (deleted)") != n.Shim {
		return false
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	return slices.Contains(strings.Split(string(args), "\x00"), n.Socket)
}

// killPods ends every process in the cgroups of pods, in every hierarchy.
func killPods(ctx context.Context, cgroups []string) error {
	var errs []error
	for _, dir := range cgroups {
		errs = append(errs, process.KillCgroup(ctx, dir))
	}
	return errors.Join(errs...)
}

const cgroupRoot = "/sys/fs/cgroup"

// cgroups are the node's cgroup in each hierarchy where it is.
func (n Node) cgroups() []string {
	var out []string
	candidates := []string{filepath.Join(cgroupRoot, n.Cgroup)}
	entries, err := os.ReadDir(cgroupRoot)
	if err == nil {
		for _, e := range entries {
			candidates = append(candidates, filepath.Join(cgroupRoot, e.Name(), n.Cgroup))
		}
	}
	for _, dir := range candidates {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			out = append(out, dir)
		}
	}
	return out
}

// removeCgroups removes the node's cgroups, the deepest first.
func (n Node) removeCgroups(ctx context.Context) error {
	var errs []error
	for _, top := range n.cgroups() {
		var dirs []string
		err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		errs = append(errs, err)
		slices.Reverse(dirs)
		for _, d := range dirs {
			errs = append(errs, removeCgroup(ctx, d))
		}
		_ = os.Remove(filepath.Dir(top)) // /mk itself, once no node uses it
	}
	return errors.Join(errs...)
}

// removeCgroup waits for the kernel, which lets go of a cgroup a moment after
// its last process has ended.
func removeCgroup(ctx context.Context, dir string) error {
	err := waitFor(ctx, "cgroup "+dir+" is empty", func() bool {
		err := os.Remove(dir)
		return err == nil || errors.Is(err, fs.ErrNotExist)
	})
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	return nil
}

// unmount unmounts everything below the node's folders, the newest first.
func (n Node) unmount(ctx context.Context) error {
	for range 3 { // a mount may hide another
		points, err := mountPoints()
		if err != nil {
			return err
		}
		found := false
		for _, p := range slices.Backward(points) {
			if !slices.ContainsFunc(n.Folders, func(f string) bool { return strings.HasPrefix(p, f+"/") }) {
				continue
			}
			found = true
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("unmount %s: %w", p, err)
			}
		}
		if !found {
			return nil
		}
	}
	return nil
}

// mountPoints lists the mounts of this process's namespace, oldest first.
func mountPoints() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look for mounts: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	var out []string
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 64<<10), 1<<20)
	for sc.Scan() {
		if fields := strings.Fields(sc.Text()); len(fields) > 4 {
			out = append(out, unescape(fields[4]))
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("look for mounts: %w", err)
	}
	return out, nil
}

// unescape undoes mountinfo's \040 for blanks and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// removeLinks removes the interfaces of the pod network.
func (n Node) removeLinks() error {
	errs := []error{n.removePorts()}
	for _, name := range n.Links {
		link, err := netlink.LinkByName(name)
		if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
			continue
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove interface %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// removePorts removes what is connected to the node's bridges: one end of each
// pod's pair. Their namespaces are gone, but the kernel takes its time.
func (n Node) removePorts() error {
	all, err := links()
	if err != nil {
		return fmt.Errorf("look for the interfaces of pods: %w", err)
	}
	bridges := map[int]bool{}
	for _, l := range all {
		if slices.Contains(n.Links, l.Attrs().Name) {
			bridges[l.Attrs().Index] = true
		}
	}
	var errs []error
	for _, l := range all {
		if !bridges[l.Attrs().MasterIndex] {
			continue
		}
		err := netlink.LinkDel(l)
		if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("remove interface %s: %w", l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// links are the interfaces. Pods' go meanwhile; the kernel then says that its
// list is not whole.
func links() (all []netlink.Link, err error) {
	for range 20 {
		if all, err = netlink.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// waitFor polls until something is so; the pause grows.
func waitFor(ctx context.Context, what string, done func() bool) error {
	pause := time.Millisecond
	for !done() {
		if !timer.Wait(ctx, pause) {
			return fmt.Errorf("wait until %s: %w", what, ctx.Err())
		}
		pause = min(2*pause, 200*time.Millisecond)
	}
	return nil
}
