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
	"os"
	"path/filepath"
	"strings"
	"time"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/operation"
)

const (
	inspectLimit = 20 * time.Second
	logBytes     = 2 << 20
)

// Report is an archive for somebody far away: how the node is, its arguments
// without secrets, the ends of its logs. Keys and tokens are never in it.
type Report struct {
	n    *operation.Node
	tar  *tar.Writer
	when time.Time
}

// Inspect writes a report. What cannot be found out in time is a file that
// says so.
func Inspect(ctx context.Context, n *operation.Node, w io.Writer, logs bool) error {
	z := gzip.NewWriter(w)
	r := &Report{n: n, tar: tar.NewWriter(z), when: n.Now()}
	parts := []struct {
		name string
		make func(context.Context) ([]byte, error)
	}{
		{"status.json", func(ctx context.Context) ([]byte, error) { return json.MarshalIndent(NodeStatus(ctx, n), "", "  ") }},
		{"doctor.json", func(ctx context.Context) ([]byte, error) { return json.MarshalIndent(Doctor(ctx, n), "", "  ") }},
		{"node.json", func(context.Context) ([]byte, error) { return json.MarshalIndent(n.Record, "", "  ") }},
		{"certificates.json", func(context.Context) ([]byte, error) { return indent(n.Certificates()) }},
		{"changes.json", func(context.Context) ([]byte, error) { return indent(r.changes()) }},
		{"plugins.json", func(context.Context) ([]byte, error) { return indent(n.Dir.List()) }},
		{"machine.txt", func(context.Context) ([]byte, error) { return machine(), nil }},
	}
	for _, s := range n.ArgumentFiles() {
		parts = append(parts, struct {
			name string
			make func(context.Context) ([]byte, error)
		}{"args/" + s, func(context.Context) ([]byte, error) { return redactedArgs(n.Root.Args(s)) }})
	}
	if logs {
		files, _ := filepath.Glob(n.Root.Path("var/log", "*.log"))
		for _, f := range files {
			parts = append(parts, struct {
				name string
				make func(context.Context) ([]byte, error)
			}{"logs/" + filepath.Base(f), func(context.Context) ([]byte, error) { return end(f) }})
		}
	}
	for _, p := range parts {
		if err := r.add(p.name, inTime(ctx, p.make)); err != nil {
			return err
		}
	}
	return errors.Join(r.tar.Close(), z.Close())
}

// inTime makes a part, or says why there is none.
func inTime(ctx context.Context, part func(context.Context) ([]byte, error)) []byte {
	ctx, cancel := context.WithTimeout(ctx, inspectLimit)
	defer cancel()
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := part(ctx)
		done <- result{data, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return []byte("not known: " + r.err.Error() + "\n")
		}
		return r.data
	case <-ctx.Done():
		return fmt.Appendf(nil, "no answer in %s\n", inspectLimit)
	}
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
	for _, rec := range all {
		for i := range rec.Steps {
			rec.Steps[i].Next.State = nil
		}
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
		lower := strings.ToLower(o.Name + value)
		if strings.Contains(lower, "password") || strings.Contains(lower, "secret=") || strings.Contains(value, "@") && strings.Contains(value, "://") ||
			strings.HasSuffix(o.Name, "token") {
			value = "‹secret›"
		}
		fmt.Fprintf(&b, "--%s=%s\n", o.Name, value)
	}
	return b.Bytes(), nil
}

// end is the end of a log.
func end(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-logBytes)
	return io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
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
