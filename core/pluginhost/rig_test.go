package pluginhost

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"mk8s.io/mk/sdk/plugin"
)

// The tests start plugins as other users, so they run as root.
const (
	pluginUser   = 64101
	strangerUser = 64199
)

// roleVariable makes this test binary another program.
const roleVariable = "MK_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

// rig is a host in folders of the test's own.
type rig struct {
	*Host
	t    testing.TB
	base string
	log  *record
}

// folder is one that every user can pass through, unlike those of t.TempDir,
// with a path that is short enough for sockets.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mkp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newRig(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	base := folder(t)
	r := &rig{t: t, base: base, log: &record{}}
	o := Options{RunDir: filepath.Join(base, "run"), Isolate: true,
		Log: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, JSONFormat: true, Output: r.log})}
	for _, c := range change {
		c(&o)
	}
	r.Host = New(o)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// spec is a plugin that is this test binary; how it behaves is in env.
func (r *rig) spec(env ...string) Spec {
	r.t.Helper()
	state, err := os.MkdirTemp(r.base, "state")
	if err == nil {
		err = os.Chown(state, pluginUser, pluginUser)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	self, digest := self(r.t)
	return Spec{Identity: plugin.Identity{Kind: plugin.KindAddons, Name: "test", Version: "1.2.3"}, Dir: r.base, Program: self,
		Digest: digest, UID: pluginUser, Env: append([]string{roleVariable + "=plugin"}, env...),
		Config: plugin.Configuration{Settings: []byte("{}"), StateDir: state, ClusterID: "c"}}
}

// script is a plugin that is a shell script.
func (r *rig) script(body string) Spec {
	r.t.Helper()
	s := r.spec()
	dir, err := os.MkdirTemp(r.base, "store")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	s.Dir, s.Program = dir, filepath.Join(dir, "plugin")
	if err == nil {
		err = os.WriteFile(s.Program, []byte("#!/bin/sh\n"+body+"\n"), 0o755)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	s.Digest = digestOf(r.t, s.Program)
	return s
}

// program is a plugin of testdata.
func (r *rig) program(path string, env ...string) Spec {
	r.t.Helper()
	s := r.spec()
	s.Env, s.Program = env, path
	s.Digest = digestOf(r.t, path)
	return s
}

func (r *rig) start(s Spec) *Plugin {
	r.t.Helper()
	p, err := r.Start(r.t.Context(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// refused starts a plugin that must not start, and answers why.
func (r *rig) refused(s Spec) error {
	r.t.Helper()
	p, err := r.Start(r.t.Context(), s)
	if err == nil {
		r.t.Fatal("it started", p.Close())
	}
	r.nothingLeft()
	return err
}

// nothingLeft fails where a start left something in the run folder.
func (r *rig) nothingLeft() {
	r.t.Helper()
	if left, _ := os.ReadDir(r.options.RunDir); len(left) > 0 {
		r.t.Errorf("left in the run folder: %v", left)
	}
}

// do has the plugin do something; see deeds.
func do(t testing.TB, p *Plugin, deed string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := p.Exporter().PrepareImport(ctx, plugin.Call{OperationID: deed})
	return string(out), err
}

func must(t testing.TB, p *Plugin, deed string) string {
	t.Helper()
	out, err := do(t, p, deed)
	if err != nil {
		t.Fatal(deed, err)
	}
	return out
}

func within(t testing.TB, limit time.Duration, what string, f func()) {
	t.Helper()
	begun := time.Now()
	f()
	if took := time.Since(begun); took > limit {
		t.Errorf("%s took %s, may take %s", what, took, limit)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("after %s: not %s", limit, what)
		}
	}
}

// pids are the processes whose command line or environment holds a text.
func pids(text string) []int {
	var found []int
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		cmdline, _ := os.ReadFile(p + "/cmdline")
		environ, _ := os.ReadFile(p + "/environ")
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && (bytes.Contains(cmdline, []byte(text)) || bytes.Contains(environ, []byte(text))) {
			found = append(found, pid)
		}
	}
	return found
}

// running counts them.
func running(text string) int { return len(pids(text)) }

var self = func() func(testing.TB) (string, string) {
	find := sync.OnceValues(func() (string, error) { return os.Executable() })
	var once sync.Once
	var digest string
	return func(t testing.TB) (string, string) {
		t.Helper()
		path, err := find()
		if err != nil {
			t.Fatal(err)
		}
		once.Do(func() { digest = digestOf(t, path) })
		return path, digest
	}
}()

func digestOf(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// as runs this test binary in a role as another user, from memory because its
// file lies where others cannot go.
func as(t testing.TB, uid uint32, role string, env ...string) *exec.Cmd {
	t.Helper()
	path, digest := self(t)
	src, err := openRegular(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close() //nolint:errcheck // only read
	program, err := sealedCopy(src, digest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return &exec.Cmd{Path: fmt.Sprintf("/proc/self/fd/%d", program.Fd()), Args: []string{role}, Dir: "/",
		Env:         append([]string{roleVariable + "=" + role}, env...),
		SysProcAttr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{}}}}
}

// build compiles a program of testdata, as plugins are shipped.
func build(t testing.TB, name string) string {
	t.Helper()
	out := filepath.Join(folder(t), name)
	b, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", out, "./testdata/"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, b)
	}
	return out
}

// record is what a host logged.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

// level is that of the first line whose message starts with a text.
func (r *record) level(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(r.b.String()) {
		var l map[string]any
		if json.Unmarshal([]byte(line), &l) != nil {
			return "line that is no JSON: " + line
		}
		if m, _ := l["@message"].(string); strings.HasPrefix(m, text) {
			return fmt.Sprint(l["@level"])
		}
	}
	return ""
}
