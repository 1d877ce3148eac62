package observe

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/pluginsdir/lockfile"
)

// Finding is something that is wrong, or will be.
type Finding struct {
	Area    string `json:"area"`
	Serious bool   `json:"serious"` // something fails already
	What    string `json:"what"`
	Next    string `json:"next,omitempty"`
}

// Areas are what Doctor looks at.
func Areas() []string {
	return []string{"services", "certs", "args", "plugins", "disk", "network", "permissions"}
}

// doctorLimit is how long one area may take.
const doctorLimit = 10 * time.Second

// Doctor looks for what is wrong in one area, or in all.
func Doctor(ctx context.Context, n *operation.Node, areas ...string) []Finding {
	looks := map[string]func(context.Context, *operation.Node) []Finding{
		"services": serviceFindings, "certs": certFindings, "args": argsFindings, "plugins": pluginFindings,
		"disk": diskFindings, "network": networkFindings, "permissions": permissionFindings,
	}
	if len(areas) == 0 {
		areas = Areas()
	}
	ctx, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	type result struct {
		area     string
		findings []Finding
	}
	results := make(chan result, len(areas))
	for _, a := range areas {
		go func() { results <- result{a, looks[a](ctx, n)} }()
	}
	found := map[string][]Finding{}
	for range areas {
		select {
		case r := <-results:
			found[r.area] = r.findings
		case <-time.After(doctorLimit + time.Second):
		}
	}
	var out []Finding
	for _, a := range areas {
		list, ok := found[a]
		if !ok {
			list = []Finding{{Area: a, Serious: true, What: fmt.Sprintf("no answer in %s", doctorLimit)}}
		}
		out = append(out, list...)
	}
	return out
}

func serviceFindings(ctx context.Context, n *operation.Node) []Finding {
	if n.Record == nil || n.Record.Stopped {
		return []Finding{{Area: "services", What: "the node is stopped", Next: "sudo mk start"}}
	}
	s := NodeStatus(ctx, n)
	var out []Finding
	for _, x := range s.Services {
		if x.State != service.Running || x.Restarts > 0 {
			out = append(out, Finding{"services", x.State != service.Running,
				fmt.Sprintf("%s is %s, started again %d times: %s", x.Name, x.State, x.Restarts, x.LastError), "mk logs " + x.Name})
		}
	}
	if len(s.Services) == 0 {
		out = append(out, Finding{"services", true, "no service runs", "sudo mk start"})
	}
	for source, why := range s.Silent {
		out = append(out, Finding{"services", true, source + ": " + why, ""})
	}
	return out
}

func certFindings(_ context.Context, n *operation.Node) []Finding {
	if n.Record == nil || n.Record.ClusterID == "" {
		return nil
	}
	list, err := n.Certificates()
	if err != nil {
		return []Finding{{"certs", true, err.Error(), ""}}
	}
	var out []Finding
	for _, c := range list {
		for _, r := range c.Reasons {
			out = append(out, Finding{"certs", r.Urgent(), c.Profile + ": " + r.Text, "sudo mk certs renew " + c.Profile})
		}
	}
	return out
}

func argsFindings(_ context.Context, n *operation.Node) []Finding {
	var out []Finding
	for _, s := range n.ArgumentFiles() {
		if _, err := args.Load(n.Root.Args(s)); err != nil {
			out = append(out, Finding{"args", true, err.Error(), "edit " + n.Root.Args(s)})
		}
	}
	return out
}

func pluginFindings(ctx context.Context, n *operation.Node) []Finding {
	findings, err := n.Dir.Verify(ctx, func(lockfile.Installed) bool { return true })
	if err != nil {
		return []Finding{{"plugins", true, err.Error(), ""}}
	}
	var out []Finding
	for _, f := range findings {
		out = append(out, Finding{"plugins", true, f.Error(), "mk plugin verify"})
	}
	return out
}

func diskFindings(_ context.Context, n *operation.Node) []Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(n.Root.Dir(), &st); err != nil {
		return []Finding{{"disk", true, err.Error(), ""}}
	}
	free := st.Bavail * uint64(st.Bsize) //nolint:gosec // a block size
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		return []Finding{{"disk", true, n.Root.Dir() + " is on a read-only disk", ""}}
	case free < 1<<30:
		return []Finding{{"disk", true, fmt.Sprintf("%d MiB are free below %s: the kubelet evicts pods", free>>20, n.Root.Dir()), "make room"}}
	}
	return nil
}

func networkFindings(context.Context, *operation.Node) []Finding {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err == nil && len(data) > 0 && data[0] != '1' {
		return []Finding{{"network", true, "packets of pods are not forwarded", "sysctl -w net.ipv4.ip_forward=1"}}
	}
	return nil
}

// permissionFindings looks for secrets that others may read.
func permissionFindings(_ context.Context, n *operation.Node) []Finding {
	var out []Finding
	for _, dir := range []string{"certs", "credentials", "var/kubernetes/backend"} {
		entries, err := os.ReadDir(n.Root.Path(dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			info, err := e.Info()
			secret := dir != "certs" || slices.Contains([]string{".key"}, extension(e.Name()))
			if err == nil && info.Mode().IsRegular() && secret && extension(e.Name()) != ".crt" && info.Mode().Perm()&0o007 != 0 {
				out = append(out, Finding{"permissions", true, fmt.Sprintf("%s may be read by everyone (mode %04o)", n.Root.Path(dir, e.Name()), info.Mode().Perm()),
					"chmod o= " + n.Root.Path(dir, e.Name())})
			}
		}
	}
	return out
}

func extension(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			return name[i:]
		}
	}
	return ""
}
