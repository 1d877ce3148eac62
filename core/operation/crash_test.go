package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/service"
)

// childVariable has the test binary be a child that runs one command.
const childVariable = "MK_TEST_CHILD"

// child is what a child shall do.
type child struct {
	Root    string
	Mk      string // stands for the program mk: plugins lie beside it
	Command string
	KillAt  int64  // before which step it kills itself; 0 is never
	Count   string // file that gets the number of steps, if it comes to the end; of a dry run, what it shows
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(childVariable); spec != "" {
		if err := runChild(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// quiet is a Progress that nobody sees.
type quiet struct{}

func (quiet) Begin(string)                     {}
func (quiet) Detail(string)                    {}
func (quiet) End(string, time.Duration, error) {}

func runChild(spec string) (err error) {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	var steps atomic.Int64
	o := c.options(func(string, string) {
		if steps.Add(1) == c.KillAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it has come
		}
	})
	if c.Command == "dry start" {
		plan, err := PlanStart(context.Background(), o, StartOptions{Name: "n1", Address: "10.9.8.7", NoWait: true})
		if err != nil || c.Count == "" {
			return err
		}
		data, err := json.Marshal(plan)
		return errors.Join(err, os.WriteFile(c.Count, data, 0o600))
	}
	n, err := c.open(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.command(ctx, c.Command); err != nil {
		return err
	}
	if c.Count == "" {
		return nil
	}
	return os.WriteFile(c.Count, []byte(strconv.FormatInt(steps.Load(), 10)), 0o600)
}

func (c child) options(step func(op, path string)) Options {
	return Options{
		Root: c.Root, Executable: c.Mk, Version: "0.1.0", Built: time.Now().AddDate(0, -1, 0), Verb: c.Command,
		User: "test", Settings: map[string]string{"supervisor": "embedded"}, Env: func(string) string { return "" },
		Progress: quiet{}, Now: time.Now, Step: step,
	}
}

// open opens a node with stand-ins for what is not this node's folder.
func (c child) open(o Options) (*Node, error) {
	open := OpenNode
	if c.Command == "start" {
		open = CreateNode
	}
	n, err := open(o)
	if err != nil {
		return nil, err
	}
	n.services = &standServices{defs: map[string]service.Definition{}, up: map[string]bool{}}
	n.Plugins = standIns{n, &sync.Mutex{}}
	n.Machine = defaults.Machine{Systemd: true} // no cgroups are made
	n.wire()
	return n, nil
}

func (n *Node) command(ctx context.Context, command string) error {
	switch command {
	case "start":
		return n.Start(ctx, StartOptions{Name: "n1", Address: "10.9.8.7", NoWait: true})
	case "refresh-certs":
		_, err := n.Renew(ctx, RenewOptions{})
		return err
	case "plugin use":
		_, err := n.UsePlugin(ctx, "clustering", "other", "", "")
		return err
	}
	return fmt.Errorf("command %q is unknown", command)
}

// run runs a child and reports whether it killed itself.
func (c child) run(t *testing.T) (killed bool) {
	t.Helper()
	spec, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVariable+"="+string(spec))
	if os.Geteuid() == 0 { // a start lets packets through: not on this machine
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() && st.Signal() == syscall.SIGKILL {
			return true
		}
	}
	t.Fatalf("%s, killed at %d: %v\n%s", c.Command, c.KillAt, err, out)
	return false
}

// TestKilledAnywhere kills mk before each of its file-system calls and journal
// records. The next run of the same command must succeed and leave what an
// undisturbed one does; and at no kill may others read a secret.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	mk := shippedPlugins(t)
	started := newNode(t, mk)
	started.run(t)
	other := newNode(t, mk)
	other.run(t)
	installOther(t, other)
	for _, c := range []struct {
		command string
		from    string // the folder that it begins with
		stride  int64
	}{
		{"start", "", startStride()},
		{"refresh-certs", started.Root, startStride()},
		{"plugin use", other.Root, 1},
	} {
		t.Run(c.command, func(t *testing.T) {
			t.Parallel()
			killEverywhere(t, child{Mk: mk, Command: c.command}, c.from, c.stride)
		})
	}
}

// startStride is how many steps lie between two kills. Exhaustive is 1, which
// MK_CHAOS asks for, as make test-kills does; without it, kills are some steps
// apart, and another run begins elsewhere.
func startStride() int64 {
	if os.Getenv("MK_CHAOS") != "" {
		return 1
	}
	return 7
}

func killEverywhere(t *testing.T, c child, from string, stride int64) {
	t.Helper()
	ref := c
	ref.Root, ref.Count = folder(t, from), filepath.Join(t.TempDir(), "count")
	ref.run(t)
	want := shape(t, ref.Root)
	data, err := os.ReadFile(ref.Count)
	if err != nil {
		t.Fatal(err)
	}
	total, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	first := 1 + time.Now().Unix()%stride
	t.Logf("%d steps, every %d from %d", total, stride, first)
	at := make(chan int64)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for n := range at {
				killOnce(t, c, from, n, want)
			}
		})
	}
	for n := first; n <= total && !t.Failed(); n += stride {
		at <- n
	}
	close(at)
	workers.Wait()
}

func killOnce(t *testing.T, c child, from string, n int64, want map[string]string) {
	dir, err := os.MkdirTemp("", "mk-crash-")
	if err != nil {
		t.Error(err)
		return
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	c.Root, c.KillAt = filepath.Join(dir, "node"), n
	if from != "" {
		if err := copyTree(c.Root, from); err != nil {
			t.Error(err)
			return
		}
	}
	killed := c.run(t)
	if !killed {
		return // fewer steps than the last time
	}
	c.secrets(t, n)
	c.KillAt = 0
	c.run(t)
	compareShapes(t, fmt.Sprintf("%s, killed at step %d", c.Command, n), want, shape(t, c.Root))
	checkCertificates(t, c)
}

// secrets finds files with a secret that others may read, whatever folder
// they are in.
func (c child) secrets(t *testing.T, n int64) {
	t.Helper()
	err := filepath.WalkDir(c.Root, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.Root, p)
		if err != nil {
			return err
		}
		secret := strings.Contains(string(data), "PRIVATE KEY") || strings.Contains(string(data), "client-key-data") ||
			strings.HasPrefix(rel, "credentials/") || strings.HasPrefix(rel, "plugins/state/")
		if secret && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s, killed at step %d: others may read %s (%v)", c.Command, n, rel, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
