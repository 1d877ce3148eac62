package machine

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// State is what a machine is like apart from what runs: the kernel's settings,
// the packet filter's rules and chains, and the names of files.
type State map[string]string

// AsNew has the machine's network as a kernel begins with it: the host's, from
// which it takes its settings, may have others.
func (m *Machine) AsNew(ctx context.Context) error {
	const reset = `cd /proc/sys/net/ipv4 && echo 0 > ip_forward && echo 0 > conf/all/route_localnet && echo 0 > conf/all/accept_redirects`
	_, err := m.Try(ctx, time.Minute, "sh", "-c", reset)
	return err
}

// Look answers the state of the machine, with the names of all files in folders.
func (m *Machine) Look(ctx context.Context, folders ...string) (State, error) {
	s := State{}
	err := m.Inside(func() error { return s.settings() })
	for _, family := range []string{"iptables", "ip6tables"} {
		rules, no := m.Try(ctx, time.Minute, family+"-save")
		if no != nil {
			return nil, no
		}
		for line := range strings.Lines(rules) {
			// A chain that the kernel makes has a policy; another one has none.
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "-") || strings.Contains(line, " - [") {
				s[family+" "+line] = "there"
			}
		}
	}
	for _, dir := range folders {
		s.files(dir)
	}
	// What the host's own services write meanwhile.
	maps.DeleteFunc(s, func(k, _ string) bool {
		return slices.ContainsFunc([]string{"/run/systemd/", "/run/udev/", "/run/user/", "/var/log/journal/", "/var/lib/systemd/"}, func(p string) bool { return strings.HasPrefix(k, p) })
	})
	return s, err
}

// settings are those that somebody makes: not what the kernel counts, or
// adapts by itself.
func (s State) settings() error {
	const sys = "/proc/sys"
	counted := []string{
		"kernel/random/", "kernel/ns_last_pid", "kernel/pty/nr", "kernel/perf_event_max_sample_rate", "net/netfilter/nf_conntrack_count",
		"net/ipv4/tcp_available_congestion_control", "net/ipv4/tcp_available_ulp", "vm/stat_refresh",
	}
	for _, dir := range []string{"kernel", "net", "vm"} {
		err := filepath.WalkDir(filepath.Join(sys, dir), func(name string, d fs.DirEntry, err error) error {
			short, _ := filepath.Rel(sys, name)
			if err != nil || d.IsDir() || slices.ContainsFunc(counted, func(c string) bool { return strings.HasPrefix(short, c) }) {
				return nil // an interface may go meanwhile
			}
			if data, err := os.ReadFile(name); err == nil {
				s[short] = string(bytes.TrimSpace(data))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s State) files(dir string) {
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		if name == "/run/netns" || name == "/run/mk" && empty(name) { // other machines'
			return fs.SkipDir
		}
		s[name] = d.Type().String()
		return nil
	})
}

func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// Since says what has changed since an earlier look. A setting that came with
// a module is no change: the kernel keeps the module.
func (s State) Since(before State) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(before)) {
		switch now, there := s[k]; {
		case !there:
			out = append(out, k+" is gone")
		case now != before[k]:
			out = append(out, fmt.Sprintf("%s is %s, and was %s", k, now, before[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s)) {
		_, known := before[k]
		setting := strings.HasPrefix(k, "net/") || strings.HasPrefix(k, "kernel/") || strings.HasPrefix(k, "vm/")
		if !known && !setting {
			out = append(out, k+" is new")
		}
	}
	return out
}
