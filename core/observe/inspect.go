package observe

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/neighbour"
	"mk8s.io/mk/core/netinfo"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
)

const (
	inspectLimit = 25 * time.Second // for everything but the writing
	logLines     = 10000
	logBytes     = 4 << 20 // of one log at most
)

// Report is an archive for somebody far away: how the node is, its arguments
// without secrets, the ends of its logs. Keys and tokens are never in it.
type Report struct {
	n    *operation.Node
	tar  *tar.Writer
	when time.Time
}

type part = func(context.Context) ([]byte, error)

// Inspect writes a report, within half a minute whatever hangs. What cannot be
// found out is a line in problems.txt.
func Inspect(ctx context.Context, n *operation.Node, w io.Writer, logs bool) error {
	z := gzip.NewWriter(w)
	r := &Report{n: n, tar: tar.NewWriter(z), when: n.Now()}
	parts := r.parts()
	for _, s := range args.Services() {
		parts["args/"+s] = read(n, func(context.Context) ([]byte, error) { return redactedArgs(n.Root.Args(s)) }, node.ArgsPart)
	}
	if logs {
		for _, s := range defaults.ServiceNames(node.ControlPlane) {
			parts["logs/"+s+".log"] = read(n, func(context.Context) ([]byte, error) { return end(n.Root.Logs(s)) }, node.LogsPart)
		}
	}
	answers := together(ctx, inspectLimit, parts)
	var problems bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		o := answers[name]
		if o.err != nil && !errors.Is(o.err, fs.ErrNotExist) {
			fmt.Fprintf(&problems, "%s: %v\n", name, o.err)
		}
		if o.value == nil {
			continue
		}
		if err := r.add(name, o.value); err != nil {
			return err
		}
	}
	if err := r.add("problems.txt", problems.Bytes()); err != nil {
		return err
	}
	return errors.Join(r.tar.Close(), z.Close())
}

func (r *Report) parts() map[string]part {
	n := r.n
	return map[string]part{
		"status.json":       func(ctx context.Context) ([]byte, error) { return indent(NodeStatus(ctx, n), nil) },
		"doctor.json":       func(ctx context.Context) ([]byte, error) { return indent(Doctor(ctx, n), nil) },
		"node.json":         func(context.Context) ([]byte, error) { return indent(n.Record, nil) },
		"certificates.json": read(n, func(context.Context) ([]byte, error) { return r.certificates() }, node.CertsPart),
		"changes.json":      read(n, func(context.Context) ([]byte, error) { return indent(r.changes()) }, node.JournalPart),
		"plugins.json":      read(n, func(context.Context) ([]byte, error) { return indent(n.Dir.List()) }, node.PluginsPart),
		"machine.txt":       func(context.Context) ([]byte, error) { return machine(), nil },
		"disk.txt":          disks,
		"others.json": func(context.Context) ([]byte, error) {
			return indent(neighbour.Kubernetes(n.Root.Dir(), n.Programs.Dir()), nil)
		},
		"firewall.txt": func(ctx context.Context) ([]byte, error) { return rules(ctx), nil },
		"network.json": func(ctx context.Context) ([]byte, error) { return indent(netinfo.Read(ctx)) },
		"cluster.json": read(n, func(ctx context.Context) ([]byte, error) { return objects(ctx, n) }, node.SecretsPart, node.CertsPart),
	}
}

func (r *Report) certificates() ([]byte, error) {
	if r.n.Record == nil || r.n.Record.ClusterID == "" {
		return nil, nil
	}
	return indent(r.n.Certificates())
}

// disks says how full the file systems are. Another program looks: a thread
// that asks a disk that is gone would keep mk from ending.
func disks(ctx context.Context) ([]byte, error) {
	var b bytes.Buffer
	for _, flags := range []string{"-PTk", "-PTi"} {
		cmd := exec.CommandContext(ctx, "df", flags)
		cmd.Stdout, cmd.Stderr = &b, &b
		cmd.Dir, cmd.WaitDelay = "/", time.Second
		// It fails where one file system cannot be looked at, and tells the rest.
		if err := cmd.Run(); err != nil {
			fmt.Fprintf(&b, "df %s: %v\n", flags, err)
		}
	}
	return b.Bytes(), nil
}

// objectsMost is how many pods and events a report has.
const objectsMost = 1000

// objects are the cluster's nodes, pods and events, without what their authors
// may have written into them.
func objects(ctx context.Context, n *operation.Node) ([]byte, error) {
	if n.Record == nil || n.Record.ClusterID == "" || n.Record.Stopped {
		return nil, nil
	}
	c, err := kube.ConnectFile(n.Root.Credentials("client.config"), kube.Options{Version: n.Version})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	nodes, nodesErr := c.Nodes(ctx)
	type pod struct{ Namespace, Name, Node, Phase, Message string }
	type event struct{ Namespace, Object, Reason, Message, At string }
	var out struct {
		Nodes  []kube.Node `json:"nodes"`
		Pods   []pod       `json:"pods"`
		Events []event     `json:"events"`
	}
	out.Nodes = nodes
	pods, podsErr := c.Pods(ctx, objectsMost)
	if podsErr == nil {
		for _, p := range pods {
			out.Pods = append(out.Pods, pod{p.Namespace, p.Name, p.Spec.NodeName, string(p.Status.Phase), p.Status.Message})
		}
	}
	events, eventsErr := c.Events(ctx, objectsMost)
	if eventsErr == nil {
		for _, e := range events {
			out.Events = append(out.Events, event{e.Namespace, e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name, e.Reason, e.Message, e.LastTimestamp.UTC().Format(time.RFC3339)})
		}
	}
	data, err := indent(out, nil)
	return data, errors.Join(err, nodesErr, podsErr, eventsErr)
}

func (r *Report) add(name string, data []byte) error {
	h := &tar.Header{Name: "mk-report/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: r.when}
	if err := r.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if _, err := r.tar.Write(data); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func indent(v any, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(v, "", "  ")
}

// changes are the records without the opaque states of plugins' steps.
func (r *Report) changes() ([]*operation.Record, error) {
	all, err := operation.Records(r.n.Root)
	for i, rec := range all {
		all[i] = withoutSecrets(rec)
	}
	return all, err
}

// redactedArgs is an args file without values that look like secrets.
func redactedArgs(path string) ([]byte, error) {
	f, err := args.Load(path)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, o := range f.Options() {
		value := o.Value
		if secret(o.Name, value) {
			value = "‹secret›"
		}
		fmt.Fprintf(&b, "--%s=%s\n", o.Name, value)
	}
	return b.Bytes(), nil
}

// secret says whether an option's value may be one: a word that says so, or
// an address with a user in it.
func secret(name, value string) bool {
	for _, word := range []string{"password", "secret=", "apikey", "api-key", "bearer"} {
		if strings.Contains(strings.ToLower(name+"="+value), word) {
			return true
		}
	}
	return strings.HasSuffix(name, "token") || strings.Contains(value, "@") && strings.Contains(value, "://")
}

// end is the end of a log.
func end(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe in its place is no reason to wait
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-logBytes)
	data, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	return lastLines(data, logLines), err
}

// machine is what /proc says of this machine.
func machine() []byte {
	var b bytes.Buffer
	for _, f := range []string{
		"/proc/version", "/proc/meminfo", "/proc/loadavg", "/proc/self/mountinfo", "/proc/net/route", "/proc/net/dev", "/proc/cgroups", "/etc/os-release",
	} {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "== %s\n%s\n", f, data)
	}
	return b.Bytes()
}

func lastLines(data []byte, most int) []byte {
	for i := len(data) - 2; i >= 0; i-- {
		if data[i] == '\n' {
			if most--; most == 0 {
				return data[i+1:]
			}
		}
	}
	return data
}
