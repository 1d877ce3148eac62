package agent

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kubeconfig"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service"
)

// years is a node on which time passes while its agent sleeps.
type years struct {
	t        *testing.T
	options  operation.Options
	services *remembered
	now      time.Time
	end      time.Time
	pauses   int
}

// TestThreeYears has a node with the plugins that ship live for three years.
// At no instant does it show anything that has ended, and nothing but kubelite
// is restarted, once, which holds a certificate in its memory.
func TestThreeYears(t *testing.T) {
	y := newYears(t)
	y.start()
	o := Options{Open: y.open, Log: hclog.NewNullLogger(), Now: y.time, Sleep: y.sleep}
	o.renewals(t.Context())
	if y.now.Before(y.end) {
		t.Fatalf("the agent ended at %s", y.now)
	}
	n, err := y.open()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close() //nolint:errcheck // only read
	all, err := operation.Records(n.Root)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, r := range all {
		count[r.Verb]++
		if r.State != operation.Done {
			t.Errorf("change %d, %s: %s %s", r.Number, r.Verb, r.State, r.Error)
		}
	}
	delete(count, "follow addresses") // where the test may not have a network of its own
	// A year's certificate is renewed after eight months.
	if count["start"] != 1 || count["refresh-certs"] != 4 || count["restart"] != 1 || len(count) != 3 {
		t.Errorf("operations: %v", count)
	}
	if !slices.Equal(y.services.restarted, []string{defaults.Kubelite}) {
		t.Errorf("restarted: %v", y.services.restarted)
	}
	t.Logf("%d pauses", y.pauses)
}

func newYears(t *testing.T) *years {
	t.Helper()
	// Plugins, as users of their own, pass through the folders above theirs.
	dir, err := os.MkdirTemp("", "mka")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nothing is in there
		t.Fatal(err)
	}
	mk := filepath.Join(dir, "out", "bin", "mk")
	if err := os.MkdirAll(filepath.Dir(mk), 0o755); err != nil { //nolint:gosec // programs
		t.Fatal(err)
	}
	if err := os.WriteFile(mk, []byte("#!/bin/false\n"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	for _, p := range []string{"certs-local", "clustering-etcd"} {
		buildPlugin(t, filepath.Join(dir, "out", "plugins", p), p)
	}
	began := time.Now().UTC().Truncate(time.Second)
	y := &years{t: t, now: began, end: began.AddDate(3, 0, 0)}
	y.services = &remembered{now: y.time, since: map[string]time.Time{}}
	y.options = operation.Options{
		Root: filepath.Join(dir, "mk"), Executable: mk, Version: "0.1.0", Built: began.AddDate(0, -1, 0), Verb: "agent", User: "test",
		Env: func(string) string { return "" }, Progress: quietly{}, Now: y.time, Services: y.services,
	}
	return y
}

// buildPlugin builds a plugin that ships, with its manifest, as a release has it.
func buildPlugin(t *testing.T, dir, name string) {
	t.Helper()
	_, short, _ := bytes.Cut([]byte(name), []byte("-"))
	program := filepath.Join(dir, "bin", string(short))
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=0.1.0", "-o", program, "mk8s.io/mk/plugins/"+name)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	manifest, err := exec.CommandContext(t.Context(), program, "--manifest").Output()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "plugin.yaml"), manifest, 0o644) //nolint:gosec // not secret
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (y *years) time() time.Time { return y.now }

func (y *years) open() (*operation.Node, error) { return y.machine(operation.OpenNode(y.options)) }

// machine leaves this machine's cgroups alone.
func (y *years) machine(n *operation.Node, err error) (*operation.Node, error) {
	if err == nil {
		n.Machine = defaults.Machine{Systemd: true}
	}
	return n, err
}

// start makes the node, in a network of its own: a start lets packets through.
func (y *years) start() {
	y.t.Helper()
	if os.Geteuid() == 0 {
		runtime.LockOSThread() // the thread ends with the test
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			y.t.Fatal(err)
		}
	}
	n, err := y.machine(operation.CreateNode(y.options))
	if err != nil {
		y.t.Fatal(err)
	}
	err = n.Start(y.t.Context(), operation.StartOptions{Name: "n1", Address: "10.9.8.7", NoWait: true})
	if err := errors.Join(err, n.Close()); err != nil {
		y.t.Fatal(err)
	}
}

// sleep lets time pass, and looks first whether all that the node shows lasts
// until its agent looks again. It takes a day at least, as on a machine that is
// put to sleep: four looks a day for three years would take minutes.
func (y *years) sleep(_ context.Context, d time.Duration) bool {
	y.pauses++
	later := y.now.Add(max(d, 24*time.Hour))
	y.lasts(later)
	y.now = later
	return !y.t.Failed() && y.now.Before(y.end)
}

func (y *years) lasts(until time.Time) {
	y.t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(y.options.Root, name))
		if err != nil {
			y.t.Error(err)
		}
		return data
	}
	check := func(name string, data []byte) {
		bundle, err := pki.ParseBundle(data)
		if err != nil {
			y.t.Errorf("%s: %v", name, err)
		}
		for _, c := range bundle {
			if y.now.Before(c.NotBefore) || !until.Before(c.NotAfter) {
				y.t.Errorf("%s lives from %s to %s: not until %s", name, c.NotBefore, c.NotAfter, until)
			}
		}
	}
	found := 0
	for _, p := range pki.Profiles() {
		if p.CertFile() != "" {
			found++
			check(p.CertFile(), read(p.CertFile()))
		}
	}
	for _, bundle := range []string{"certs/ca.crt", "certs/client-ca.crt", "certs/front-proxy-ca.crt", "certs/datastore-ca.crt"} {
		check(bundle, read(bundle))
	}
	// People's kubeconfig holds its certificate; the programs' name files.
	c, err := kubeconfig.Parse(filepath.Join(y.options.Root, "credentials/client.config"), read("credentials/client.config"))
	if err != nil {
		y.t.Fatal(err)
	}
	for _, u := range c.Users {
		check("credentials/client.config", u.Cert)
	}
	if found < 12 {
		y.t.Errorf("%d certificates are on the node", found)
	}
}

// quietly is a Progress that nobody sees.
type quietly struct{}

func (quietly) Begin(string)                     {}
func (quietly) Detail(string)                    {}
func (quietly) End(string, time.Duration, error) {}

// remembered are services that only remember what was asked of them.
type remembered struct {
	mu        sync.Mutex
	now       func() time.Time
	since     map[string]time.Time // of those that run
	restarted []string
}

var _ service.Controller = (*remembered)(nil)

// Apply takes every definition.
func (r *remembered) Apply(context.Context, []service.Definition) error { return nil }

// Start remembers when.
func (r *remembered) Start(_ context.Context, names ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		r.since[name] = r.now()
	}
	return nil
}

// Stop forgets.
func (r *remembered) Stop(_ context.Context, names ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		delete(r.since, name)
	}
	return nil
}

// Restart remembers which.
func (r *remembered) Restart(ctx context.Context, names ...string) error {
	r.mu.Lock()
	r.restarted = append(r.restarted, names...)
	r.mu.Unlock()
	return r.Start(ctx, names...)
}

// Status is of those that run.
func (r *remembered) Status(context.Context) ([]service.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []service.Status
	for name, since := range r.since {
		out = append(out, service.Status{Name: name, State: service.Running, Since: since})
	}
	return out, nil
}
