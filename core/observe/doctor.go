package observe

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/pluginsdir/lockfile"
)

// Finding is something that is wrong, or will be.
type Finding struct {
	Area    string `json:"area"`
	Serious bool   `json:"serious"` // something fails already
	What    string `json:"what"`
	Why     string `json:"why,omitempty"`
	Next    string `json:"next,omitempty"`
}

// Areas are what Doctor looks at.
func Areas() []string {
	return []string{"services", "certs", "args", "plugins", "disk", "clock", "network", "kernel", "permissions", "images"}
}

// doctorLimit is how long one area may take.
const doctorLimit = 10 * time.Second

// Doctor looks for what is wrong in some areas, or in all; what is no area is
// left out. It returns within doctorLimit: an area that hangs is a finding.
func Doctor(ctx context.Context, n *operation.Node, areas ...string) []Finding {
	looks := map[string]func(context.Context, *operation.Node) []Finding{
		"services": serviceFindings, "certs": certFindings, "args": argsFindings, "plugins": pluginFindings,
		"disk": diskFindings, "clock": clockFindings, "network": networkFindings, "kernel": kernelFindings, "permissions": permissionFindings,
		"images": imageFindings,
	}
	if len(areas) == 0 {
		areas = Areas()
	}
	questions := map[string]func(context.Context) ([]Finding, error){}
	for _, a := range areas {
		if look, ok := looks[a]; ok {
			questions[a] = read(n, func(ctx context.Context) ([]Finding, error) { return look(ctx, n), nil }, areaParts(a)...)
		}
	}
	answers := together(ctx, doctorLimit, questions)
	var out []Finding
	for _, a := range areas {
		o, ok := answers[a]
		if !ok {
			continue
		}
		out = append(out, o.value...)
		if o.err != nil {
			out = append(out, Finding{Area: a, Serious: true, What: o.err.Error(), Why: "the disk or a program hangs"})
		}
	}
	return out
}

// areaParts are the parts of the node's folder that an area needs.
func areaParts(area string) []string {
	switch area {
	case "images":
		return []string{node.CertsPart, node.SecretsPart}
	case "certs", "clock":
		return []string{node.CertsPart}
	case "args":
		return []string{node.ArgsPart, node.CertsPart, node.SecretsPart}
	case "plugins":
		return []string{node.PluginsPart}
	case "disk":
		return []string{node.Folder}
	case "permissions":
		return []string{node.CertsPart, node.SecretsPart}
	}
	return nil
}

func serviceFindings(ctx context.Context, n *operation.Node) []Finding {
	if n.Silent == nil && (n.Record == nil || n.Record.Stopped) {
		return []Finding{{Area: "services", What: "the node is stopped", Next: "sudo mk start"}}
	}
	s := NodeStatus(ctx, n)
	var out []Finding
	for _, x := range s.Services {
		if x.State != service.Running || x.Restarts > 0 {
			out = append(out, Finding{Area: "services", Serious: x.State != service.Running,
				What: fmt.Sprintf("%s is %s, started again %d times", x.Name, x.State, x.Restarts), Why: x.LastError, Next: "mk logs " + x.Name})
		}
	}
	if len(s.Services) == 0 {
		out = append(out, Finding{Area: "services", Serious: true, What: "no service runs", Next: "sudo mk start"})
	}
	for _, line := range s.Silences() {
		out = append(out, Finding{Area: "services", Serious: true, What: line})
	}
	return out
}

func certFindings(_ context.Context, n *operation.Node) []Finding {
	if n.Record == nil || n.Record.ClusterID == "" {
		return nil
	}
	list, err := n.Certificates()
	if err != nil {
		return []Finding{{Area: "certs", Serious: true, What: err.Error()}}
	}
	var out []Finding
	for _, c := range list {
		for _, r := range c.Reasons {
			out = append(out, Finding{Area: "certs", Serious: r.Urgent(), What: c.Profile + ": " + r.Text, Next: "sudo mk certs renew " + c.Profile})
		}
	}
	return out
}

func argsFindings(_ context.Context, n *operation.Node) []Finding {
	var out []Finding
	for _, err := range n.EditedFaults() {
		file, _, _ := strings.Cut(err.Error(), ": ")
		out = append(out, Finding{Area: "args", Serious: true, What: err.Error(), Next: "edit " + file})
	}
	return out
}

func pluginFindings(ctx context.Context, n *operation.Node) []Finding {
	findings, err := n.Dir.Verify(ctx, func(lockfile.Installed) bool { return true })
	if err != nil {
		return []Finding{{Area: "plugins", Serious: true, What: err.Error()}}
	}
	var out []Finding
	for _, f := range findings {
		out = append(out, Finding{Area: "plugins", Serious: true, What: f.Error(), Next: f.Next})
	}
	return out
}

func diskFindings(_ context.Context, n *operation.Node) []Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(n.Root.Dir(), &st); err != nil {
		return []Finding{{Area: "disk", Serious: true, What: err.Error()}}
	}
	free := st.Bavail * uint64(st.Bsize) //nolint:gosec // a block size
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		return []Finding{{Area: "disk", Serious: true, What: n.Root.Dir() + " is on a read-only disk"}}
	case free < 1<<30:
		return []Finding{{Area: "disk", Serious: true, What: fmt.Sprintf("%d MiB are free below %s: the kubelet evicts pods", free>>20, n.Root.Dir()), Next: "make room"}}
	}
	return nil
}

// permissionFindings looks for secrets that others may read.
func permissionFindings(_ context.Context, n *operation.Node) []Finding {
	var out []Finding
	for _, name := range n.OpenSecrets() {
		out = append(out, Finding{Area: "permissions", Serious: true, What: n.Root.Path(name) + " may be read by everyone", Next: "sudo mk doctor permissions --fix"})
	}
	return out
}
