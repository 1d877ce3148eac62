// Package neighbour finds what else on this machine would be in a node's way:
// other distributions of Kubernetes, and who listens on a port.
//
// Guaranteed: it only reads /proc and looks for folders. Not guaranteed: that
// what runs in other network namespaces, or what this user may not see, is
// found; neither is in a node's way.
package neighbour

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Found is another Kubernetes on this machine.
type Found struct {
	Name    string `json:"name"`
	PID     int    `json:"pid,omitempty"` // 0 where only its folder is there
	Process string `json:"process"`       // the program, or the folder
	Ports   []int  `json:"ports,omitempty"`
	Stop    string `json:"stop,omitempty"` // what a person types to end it for good
}

// String names it for a message.
func (f Found) String() string {
	if f.PID == 0 {
		return fmt.Sprintf("%s (%s)", f.Name, f.Process)
	}
	return fmt.Sprintf("%s of %s (pid %d)", filepath.Base(f.Process), f.Name, f.PID)
}

// Holder is the process that listens on a port.
type Holder struct {
	PID     int    `json:"pid"`
	Program string `json:"program"`
}

// String names it for a message.
func (h Holder) String() string { return fmt.Sprintf("%s (pid %d)", h.Program, h.PID) }

// Kubernetes lists what else runs in this network namespace, or lies installed,
// as Kubernetes on this machine. Processes that name one of the folders in
// ours, the node's root and the distribution, are not others'.
func Kubernetes(ours ...string) []Found { return kubernetes("/", ours) }

// PortHolders says who listens on the ports; one that nobody holds, or whose
// holder this user may not see, is not in the answer.
func PortHolders(ports ...int) map[int]Holder {
	held := listeners("/")
	out := map[int]Holder{}
	for _, p := range ports {
		if h, ok := held[p]; ok {
			out[p] = h
		}
	}
	return out
}

// mark tells a distribution by its program or by a folder in its path.
type mark struct{ name, path, program, folder, stop string }

// marks are in an order that matters: k3s and microk8s run programs that
// others run too.
func marks() []mark {
	return []mark{
		{"the snap microk8s", "/snap/microk8s/", "", "snap/microk8s/current", "sudo snap stop --disable microk8s"},
		{"k3s", "", "k3s", "var/lib/rancher/k3s", "sudo systemctl disable --now k3s"},
		{"rke2", "/rancher/rke2/", "rke2", "var/lib/rancher/rke2", "sudo systemctl disable --now rke2-server"},
		{"k0s", "", "k0s", "var/lib/k0s", "sudo k0s stop"},
		{"minikube", "/minikube/", "minikube", "", "minikube stop"},
		{"kubeadm, or another that runs a kubelet", "", "kubelet", "etc/kubernetes/manifests", "sudo systemctl disable --now kubelet"},
		{"a control plane", "", "kube-apiserver", "", ""},
		{"another mk, or MicroK8s", "", "kubelite", "", ""},
	}
}

// isOf tells whether a program is the distribution's.
func (m mark) isOf(exe string) bool {
	return m.path != "" && strings.Contains(exe, m.path) || m.program != "" && filepath.Base(exe) == m.program
}

func kubernetes(base string, ours []string) []Found {
	var held map[int]Holder // looked for where there is one: it takes a look at every open file
	seen := map[string]bool{}
	var out []Found
	for _, pid := range processes(base) {
		exe, ok := foreign(base, pid, ours)
		if !ok {
			continue
		}
		all := marks()
		i := slices.IndexFunc(all, func(m mark) bool { return m.isOf(exe) })
		if i < 0 {
			continue
		}
		f := Found{Name: all[i].name, PID: pid, Process: exe, Stop: all[i].stop}
		if held == nil {
			held = listeners(base)
		}
		for port, h := range held {
			if h.PID == pid {
				f.Ports = append(f.Ports, port)
			}
		}
		slices.Sort(f.Ports)
		out, seen[f.Name] = append(out, f), true
	}
	for _, m := range marks() {
		if m.folder == "" || seen[m.name] {
			continue
		}
		if entries, err := os.ReadDir(filepath.Join(base, m.folder)); err == nil && len(entries) > 0 {
			out = append(out, Found{Name: m.name, Process: "/" + m.folder})
		}
	}
	slices.SortFunc(out, func(a, b Found) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.PID, b.PID)) })
	return out
}

// foreign is the program of a process that is in this network namespace and
// names none of the folders in ours.
func foreign(base string, pid int, ours []string) (exe string, ok bool) {
	proc := filepath.Join(base, "proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil {
		return "", false // a kernel thread, or gone
	}
	own, _ := os.Readlink(filepath.Join(base, "proc/self/ns/net"))
	if theirs, _ := os.Readlink(filepath.Join(proc, "ns/net")); theirs != own {
		return "", false
	}
	line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil {
		return "", false
	}
	text := exe + " " + string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
	return exe, !slices.ContainsFunc(ours, func(o string) bool { return o != "" && strings.Contains(text, strings.TrimSuffix(o, "/")+"/") })
}

func processes(base string) []int {
	entries, err := os.ReadDir(filepath.Join(base, "proc"))
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out
}

// listeners are all listening TCP ports and who holds them.
func listeners(base string) map[int]Holder {
	sockets := map[string]int{} // link text: port
	for _, f := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(filepath.Join(base, "proc/net", f))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if port, inode, ok := listening(line); ok {
				sockets["socket:["+inode+"]"] = port
			}
		}
	}
	out := map[int]Holder{}
	for _, pid := range processes(base) {
		proc := filepath.Join(base, "proc", strconv.Itoa(pid))
		fds, err := os.ReadDir(filepath.Join(proc, "fd"))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			target, err := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
			port, ok := sockets[target]
			if _, known := out[port]; err != nil || !ok || known {
				continue
			}
			exe, err := os.Readlink(filepath.Join(proc, "exe"))
			if err != nil {
				exe = "a process"
			}
			out[port] = Holder{PID: pid, Program: exe}
		}
	}
	return out
}

// listening reads one line of /proc/net/tcp or tcp6.
func listening(line string) (port int, inode string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != "0A" {
		return 0, "", false
	}
	_, hex, found := strings.Cut(fields[1], ":")
	n, err := strconv.ParseUint(hex, 16, 16)
	if !found || err != nil {
		return 0, "", false
	}
	return int(n), fields[9], true
}
