package observe

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
}

// Holder is the process that listens on a port.
type Holder struct {
	PID     int    `json:"pid"`
	Program string `json:"program"`
}

// String names it for a message.
func (h Holder) String() string { return fmt.Sprintf("%s (pid %d)", h.Program, h.PID) }

// OtherKubernetes lists what else runs, or lies installed, as Kubernetes on
// this machine. Processes that name one of the folders in ours, the node's
// root and the distribution, are not others'.
func OtherKubernetes(ours ...string) []Found { return otherKubernetes("/", ours) }

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

// marks tell a distribution by its program or by a folder in its path. The
// order matters: k3s and microk8s run programs that others run too.
func marks() []struct{ name, path, program string } {
	return []struct{ name, path, program string }{
		{"microk8s", "/snap/microk8s/", ""}, {"k3s", "", "k3s"}, {"rke2", "/rancher/rke2/", "rke2"}, {"k0s", "", "k0s"},
		{"minikube", "/minikube/", "minikube"}, {"kubeadm or another kubelet", "", "kubelet"}, {"a kube-apiserver", "", "kube-apiserver"},
		{"another mk, or MicroK8s", "", "kubelite"},
	}
}

func folders() map[string]string {
	return map[string]string{
		"microk8s": "snap/microk8s/current", "k3s": "var/lib/rancher/k3s", "rke2": "var/lib/rancher/rke2", "k0s": "var/lib/k0s",
		"kubeadm or another kubelet": "etc/kubernetes/manifests",
	}
}

func otherKubernetes(base string, ours []string) []Found {
	held := listeners(base)
	seen := map[string]bool{}
	var out []Found
	for _, pid := range processes(base) {
		proc := filepath.Join(base, "proc", strconv.Itoa(pid))
		exe, err := os.Readlink(filepath.Join(proc, "exe"))
		if err != nil {
			continue // a kernel thread, or gone
		}
		line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		if err != nil {
			continue
		}
		text := exe + " " + string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		if slices.ContainsFunc(ours, func(o string) bool { return o != "" && strings.Contains(text, strings.TrimSuffix(o, "/")+"/") }) {
			continue
		}
		for _, m := range marks() {
			if m.path != "" && strings.Contains(exe, m.path) || m.program != "" && filepath.Base(exe) == m.program {
				f := Found{Name: m.name, PID: pid, Process: exe}
				for port, h := range held {
					if h.PID == pid {
						f.Ports = append(f.Ports, port)
					}
				}
				slices.Sort(f.Ports)
				out, seen[m.name] = append(out, f), true
				break
			}
		}
	}
	for name, dir := range folders() {
		if entries, err := os.ReadDir(filepath.Join(base, dir)); err == nil && len(entries) > 0 && !seen[name] {
			out = append(out, Found{Name: name, Process: "/" + dir})
		}
	}
	slices.SortFunc(out, func(a, b Found) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.PID, b.PID)) })
	return out
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
