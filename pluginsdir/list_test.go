package pluginsdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/plugin"
)

func shipped(t *testing.T, programs string, list ...string) string {
	t.Helper()
	for _, l := range list {
		f := strings.Fields(l) // certs/local 1.0.0 content
		pluginIn(t, filepath.Join(programs, strings.Replace(f[0], "/", "-", 1)), f[0], f[1], f[2], "")
	}
	return programs
}

func TestInstallShipped(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	o := options()
	from := shipped(t, t.TempDir(), "certs/local 1.0.0 a", "tokens/file 1.0.0 b", "clustering/etcd 1.0.0 c", "addons/core 1.0.0 d")
	ok(t, os.Mkdir(from+"/other", 0o755))
	r, err := d.InstallShipped(t.Context(), from, o)
	if err != nil || len(r) != 4 {
		t.Fatalf("%d installed, %v", len(r), err)
	}
	l := lock(t, d)
	if len(l.Active) != 6 || l.Installed[0].Source != SourceShipped {
		t.Errorf("active: %+v", l.Active)
	}
	before := string(l.Bytes())
	if r, err := d.InstallShipped(t.Context(), from, o); err != nil || len(r) != 0 || string(lock(t, d).Bytes()) != before {
		t.Errorf("again: %d installed, %v", len(r), err)
	}

	// Another version is installed beside, the active one stays.
	shipped(t, from, "certs/local 1.1.0 e")
	if r, err = d.InstallShipped(t.Context(), from, o); err != nil || len(r) != 1 {
		t.Fatalf("%d installed, %v", len(r), err)
	}
	if a, _ := lock(t, d).ActiveFor("certs", "kubernetes"); a.Version != "1.0.0" {
		t.Errorf("active is %s", a.Version)
	}

	// A rebuild under the same version takes its place, active or not; a pinned one waits.
	shipped(t, from, "tokens/file 1.0.0 rebuilt")
	old, _ := lock(t, d).ActiveFor("tokens", "")
	o.Pins = []lockfile.Pin{{Digest: old.Digest, Operation: "start (1)"}}
	if r, err = d.InstallShipped(t.Context(), from, o); err != nil || len(r) != 0 {
		t.Errorf("pinned: %d installed, %v", len(r), err)
	}
	o.Pins = nil
	if r, err = d.InstallShipped(t.Context(), from, o); err != nil || len(r) != 1 {
		t.Fatalf("%d installed, %v", len(r), err)
	}
	if now, found := lock(t, d).ActiveFor("tokens", ""); !found || now.Digest == old.Digest {
		t.Error("the old build is active")
	}

	// What someone switched off stays off.
	off, err := lockfile.PlanDeactivate(lock(t, d), plugin.KindAddons, "core")
	ok(t, err)
	ok(t, d.WriteLock(off))
	if _, err = d.InstallShipped(t.Context(), from, o); err != nil || len(lock(t, d).ActiveOf(plugin.KindAddons)) != 0 {
		t.Errorf("addons are active again (%v)", err)
	}
	if found, err := d.Verify(t.Context(), nil); err != nil || len(found) != 0 {
		t.Errorf("findings %v (%v)", found, err)
	}
}

// TestOneOfTwoStrategiesIsTheDefault: which one does not depend on names.
func TestOneOfTwoStrategiesIsTheDefault(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	from := shipped(t, t.TempDir(), "clustering/approve 1.0.0 a", "clustering/etcd 1.0.0 b")
	ok(t, os.WriteFile(from+"/defaults", []byte("# the usual\n\n clustering/etcd\n"), 0o644))
	if r, err := d.InstallShipped(t.Context(), from, options()); err != nil || len(r) != 2 {
		t.Fatalf("%d installed, %v", len(r), err)
	}
	if a, found := lock(t, d).ActiveFor("clustering", ""); !found || a.Name != "etcd" {
		t.Errorf("active is %q", a.Name)
	}
}

func TestOneBadShippedPluginDoesNotKeepOthersOut(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	from := shipped(t, t.TempDir(), "certs/local 1.0.0 a", "tokens/file 1.0.0 b")
	ok(t, os.WriteFile(from+"/certs-local/bin/local", []byte("evil"), 0o755))
	r, err := d.InstallShipped(t.Context(), from, options())
	if !errors.Is(err, ErrRefused) || len(r) != 1 || r[0].Installed.Name != "file" {
		t.Errorf("%d installed, %v", len(r), err)
	}
}

func TestVerifyFindsEveryChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(t *testing.T, store string)
		want   string
	}{
		"program":  {func(t *testing.T, s string) { damage(t, s+"/bin/x") }, "bin/x is sha256:"},
		"manifest": {func(t *testing.T, s string) { damage(t, s+"/plugin.yaml") }, "plugin.yaml is sha256:"},
		"missing":  {func(t *testing.T, s string) { ok(t, os.Chmod(s, 0o755)); ok(t, os.RemoveAll(s)) }, "is missing"},
		"writable": {func(t *testing.T, s string) { ok(t, os.Chmod(s+"/bin/x", 0o755)) }, "is writable"},
		"more": {func(t *testing.T, s string) {
			ok(t, os.Chmod(s, 0o755))
			ok(t, os.WriteFile(s+"/y", nil, 0o444))
			ok(t, os.Chmod(s, 0o555))
		}, "is sha256:"},
		"link": {func(t *testing.T, s string) { ok(t, os.Chmod(s, 0o755)); ok(t, os.Symlink("x", s+"/y")) }, "symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDir(t)
			r := put(t, d, newPlugin(t, "certs/x", "1.0.0", "x", ""))
			c.change(t, d.StorePath(r.Installed.Digest))
			err := d.VerifyInstalled(t.Context(), r.Installed)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			none, err := d.Verify(t.Context(), func(lockfile.Installed) bool { return false })
			if err != nil || len(none) != 0 {
				t.Errorf("filtered: %v %v", none, err)
			}
		})
	}
}

func TestListAndInfo(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	one := put(t, d, newPlugin(t, "certs/x", "1.9.0", "a", "grants: {trust: [kubernetes]}"))
	put(t, d, newPlugin(t, "certs/x", "1.10.0", "b", "grants: {trust: [kubernetes]}"))
	l, _, err := lockfile.PlanActivate(lock(t, d), lockfile.Activation{Kind: "certs", Name: "x", Constraint: "1.9.0"})
	ok(t, err)
	ok(t, d.WriteLock(l))
	list, err := d.List()
	if err != nil || len(list) != 2 || list[0].Version != "1.9.0" || !list[0].Active || len(list[0].For) != 3 || list[1].Active || list[1].Missing {
		t.Errorf("list %+v (%v)", list, err)
	}
	said := &Described{
		Description: plugin.Description{Identity: one.Installed.Identity, Contracts: []string{"mk.certs.v1"}, Grants: one.Installed.Grants},
		Addons:      []addons.Addon{{Name: "dns"}},
	}
	ok(t, CheckDescribed(one.Manifest, said))
	ok(t, d.SaveDescribed(one.Installed.Digest, said))
	info, err := d.Info("certs", "x", "")
	if err != nil || info.Version != "1.9.0" || info.Described.Addons[0].Name != "dns" || !slices.Equal(info.Others, []string{"1.10.0"}) || len(info.Reasons) != 2 {
		t.Errorf("info %+v (%v)", info, err)
	}
	ok(t, os.Chmod(d.StorePath(one.Installed.Digest)+"/plugin.yaml", 0o644))
	ok(t, os.WriteFile(d.StorePath(one.Installed.Digest)+"/plugin.yaml", []byte("x"), 0o644))
	if _, err := d.Manifest(one.Installed); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "its manifest was changed") {
		t.Errorf("got %v", err)
	}
	// Once it is gone from the lock file, what it said goes with it.
	ok(t, d.WriteLock(lockfile.New()))
	if _, err := d.Sweep(t.Context()); err != nil || len(storeNames(t, d)) != 0 {
		t.Errorf("left %v (%v)", storeNames(t, d), err)
	}
	if said, err := d.LoadDescribed(one.Installed.Digest); said != nil || err != nil {
		t.Errorf("still described: %v", err)
	}
}

func TestABadLockFileIsNamed(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	ok(t, d.files.WriteFile("lock.json", []byte("{\"schema\": 1,\n\"extra\": 2}"), 0o640))
	want := filepath.Join(d.path, "lock.json") + ":2: extra: unknown field"
	if _, err := d.List(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The lock file is taken apart again when it was changed, by whomever.
func TestTheLockFileIsReadAnewWhenItChanged(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	one := lockfile.New()
	ok(t, d.WriteLock(one))
	first, err := d.Lock()
	ok(t, err)
	if again, err := d.Lock(); err != nil || again != first {
		t.Errorf("unchanged, it was taken apart again (%v)", err)
	}
	one.Users = map[string]int{"certs/a": lockfile.FirstUser}
	ok(t, d.WriteLock(one))
	if now, err := d.Lock(); err != nil || len(now.Users) != 1 {
		t.Errorf("after a change: %+v, %v", now, err)
	}
	ok(t, d.files.WriteFile("lock.json", []byte("{"), 0o640))
	if now, err := d.Lock(); err == nil {
		t.Errorf("a damaged file: %+v", now)
	}
}

func BenchmarkList50(b *testing.B) {
	d := newDir(b)
	for i := range 50 {
		put(b, d, newPlugin(b, fmt.Sprintf("addons/p%d", i), "1.0.0", fmt.Sprint(i),
			"grants:\n  network: ['a:1', 'b:2', 'c:3']\n  objects: [{group: apps, kinds: [Deployment, DaemonSet], namespaces: [x, y]}]"))
	}
	for b.Loop() {
		if l, err := d.List(); err != nil || len(l) != 50 {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckSettings(b *testing.B) {
	m := withSettings(`{"type":"object","properties":{"a":{"type":"string"}}}`)
	for b.Loop() {
		if err := CheckSettings(m, []byte(`{"a":"b"}`), "f"); err != nil {
			b.Fatal(err)
		}
	}
}
