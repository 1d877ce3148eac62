package pluginhost

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func factsOf(t *testing.T, p *Plugin) fact {
	t.Helper()
	var f fact
	if err := json.Unmarshal([]byte(must(t, p, "facts")), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestACell(t *testing.T) {
	t.Setenv("SECRET_OF_THE_HOST", "s3cr3t")
	typed(t, "a token typed to mk\n")
	groups(t, 64198) // as a login has more of them than its own
	r := newRig(t)
	s := r.spec("OWN=1")
	p := r.start(s)
	f := factsOf(t, p)
	if f.UID != pluginUser || f.GID != pluginUser || len(f.Groups) != 0 {
		t.Errorf("user %d, group %d, groups %v", f.UID, f.GID, f.Groups)
	}
	if f.PID != 1 || f.Parent != 0 {
		t.Errorf("pid %d, parent %d: no PID namespace of its own", f.PID, f.Parent)
	}
	if f.NoNewPrivileges != 1 {
		t.Error("it can gain privileges")
	}
	if f.SetUID != "operation not permitted" {
		t.Error("setuid(0):", f.SetUID)
	}
	if limited := f.Core == 0 && f.Files <= 4096; limited != mayLimit(t) {
		t.Errorf("limits: core %d, files %d", f.Core, f.Files)
	}
	if f.Input != "<nil>" {
		t.Errorf("it read %q from standard input", f.Input)
	}
	if f.Dir != s.Dir {
		t.Errorf("it runs in %s", f.Dir)
	}
	if !slices.Equal(f.Interfaces, []string{"lo"}) || len(f.Up) != 0 {
		t.Errorf("interfaces %v, up %v", f.Interfaces, f.Up)
	}
	if f.Config.StateDir != s.Config.StateDir || string(f.Config.Settings) != "{}" {
		t.Errorf("configured with %+v", f.Config)
	}
	checkEnv(t, f.Env, p.dir)
	for _, ns := range []string{"pid", "net", "mnt", "ipc"} {
		mine, _ := os.Readlink("/proc/self/ns/" + ns)
		its, err := os.Readlink("/proc/" + p.runner.ID() + "/ns/" + ns)
		if err != nil || mine == its {
			t.Errorf("%s: %s and %s, %v", ns, mine, its, err)
		}
	}
	if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); on != 0 || err != nil {
		t.Error("the host lost its privileges", on, err)
	}
}

// groups gives this process more groups for the test.
func groups(t *testing.T, more ...int) {
	t.Helper()
	before, err := os.Getgroups()
	if err == nil {
		err = syscall.Setgroups(append(more, before...))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setgroups(before); err != nil {
			t.Error(err)
		}
	})
}

// typed puts text on the standard input of this process for the test.
func typed(t *testing.T, text string) {
	t.Helper()
	in, out, err := os.Pipe()
	if err == nil {
		_, err = out.WriteString(text)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = in
	t.Cleanup(func() {
		os.Stdin = before
		if left, err := io.ReadAll(in); string(left) != text || err != nil {
			t.Errorf("of what was typed %q is left, %v", left, err)
		}
		_ = in.Close()
	})
}

// mayLimit reports whether this machine lets root bound another user's process.
func mayLimit(t *testing.T) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func checkEnv(t *testing.T, env []string, dir string) {
	t.Helper()
	var names []string
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		names = append(names, name)
		if (name == "HOME" || name == "TMPDIR") && filepath.Dir(value) != dir {
			t.Errorf("%s is not in its folder", e)
		}
	}
	slices.Sort(names)
	// Neither the host's environment nor the cookie, which would reach children.
	want := "AT_START" // never set here
	if slices.Contains(names, want) || slices.Contains(names, "SECRET_OF_THE_HOST") || slices.Contains(names, "MK_PLUGIN") || !slices.Contains(names, "OWN") {
		t.Error(names)
	}
	if len(names) > 13 {
		t.Error("more than was given:", names)
	}
}

func TestWhatAPluginMayOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.spec()
	p := r.start(s)
	readable := filepath.Join(folder(t), "public")
	if err := errors.Join(os.WriteFile(readable, nil, 0o644), os.Chmod(filepath.Dir(readable), 0o777)); err != nil {
		t.Fatal(err)
	}
	const denied, opened = "permission denied", "opened"
	hidden := opened // by nothing but Landlock, which not every kernel has
	if landlockVersion() > 0 {
		hidden = denied
	}
	for path, want := range map[string]string{
		"/etc/shadow": denied, "/proc/self/environ": hidden, "/proc/1/cmdline": hidden, "/etc": hidden, readable: hidden,
		"/etc/passwd": opened, "/usr/bin/env": opened, "/dev/null": opened, "/dev/urandom": opened, s.Dir: opened, s.Config.StateDir: opened,
		r.options.RunDir: denied, p.dir: denied,
	} {
		if got := must(t, p, "open "+path); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s, not %s", path, got, want)
		}
	}
	must(t, p, "write "+s.Config.StateDir+"/x")
	must(t, p, "write "+p.runner.sockets+"/x")
	for path, want := range map[string]string{p.dir + "/x": denied, s.Dir + "/x": denied, filepath.Dir(readable) + "/open": hidden} {
		got := opened
		if _, err := do(t, p, "write "+path); err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(got, want) {
			t.Errorf("write %s: %s, not %s", path, got, want)
		}
	}
}

func TestTheNetworkIsAGrant(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing is accepted
	r := newRig(t)
	if got := must(t, r.start(r.spec()), "dial "+l.Addr().String()); got == "connected" {
		t.Error("connected without the grant")
	}
	s := r.spec()
	s.Grants.Network = []string{l.Addr().String()}
	if got := must(t, r.start(s), "dial "+l.Addr().String()); got != "connected" {
		t.Error(got)
	}
}

// Authors' tools leave the cell out.
func TestWithoutACell(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.Isolate = false })
	f := factsOf(t, r.start(r.spec()))
	if f.UID != os.Getuid() || f.PID == 1 {
		t.Errorf("%+v", f)
	}
}

// Languages that need an interpreter find it and their libraries.
func TestAScriptFindsWhatItNeeds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	err := r.refused(r.script(`printf '%s' "$(id -u) $(cat "$0" | head -c 2) $(echo x > $TMPDIR/f && cat $TMPDIR/f) $(ls /proc/1/cmdline 2>&1 | tail -c 18)"`))
	if !strings.Contains(err.Error(), `printed "64101 #! x`) {
		t.Error(err)
	}
}
