package pluginsdir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mk8s.io/mk/pluginsdir/folder"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/plugin"
)

func TestInstallPutsVersionsSideBySide(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	one := put(t, d, newPlugin(t, "certs/vault", "1.0.0", "one", ""))
	two := put(t, d, newPlugin(t, "certs/vault", "1.1.0", "two", ""))
	if one.User != two.User || one.User < lockfile.FirstUser || one.Installed.Digest == two.Installed.Digest {
		t.Errorf("users %d and %d, digests %s and %s", one.User, two.User, one.Installed.Digest, two.Installed.Digest)
	}
	if n := len(lock(t, d).Versions("certs", "vault")); n != 2 || len(lock(t, d).Active) != 0 {
		t.Errorf("%d versions, active %v", n, lock(t, d).Active)
	}
	for name, want := range map[string]os.FileMode{
		".": 0o711, "store": 0o711, "lock.json": 0o640, "receipts/certs-vault.json": 0o640,
		"store/" + storeName(one.Installed.Digest): 0o555, "store/" + storeName(one.Installed.Digest) + "/bin/vault": 0o555,
		"store/" + storeName(one.Installed.Digest) + "/plugin.yaml": 0o444,
	} {
		info, err := os.Stat(filepath.Join(d.path, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, want %v (%v)", name, info.Mode().Perm(), want, err)
		}
	}
	h, err := d.History("certs", "vault")
	if err != nil || len(h) != 2 || h[0].State != Done || h[0].By != "lin" || !strings.HasPrefix(h[0].Source, "folder:/") {
		t.Errorf("history %+v (%v)", h, err)
	}
	if found, err := d.Verify(t.Context(), nil); err != nil || len(found) != 0 {
		t.Errorf("findings %v (%v)", found, err)
	}
}

func TestInstallAgainChangesNothing(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	from := newPlugin(t, "tokens/file", "1.0.0", "x", "")
	first := put(t, d, from)
	before := lock(t, d).Bytes()
	o := options()
	o.By, o.At = "eve", o.At.AddDate(0, 0, 1)
	o.Consent = nil // what was agreed to holds
	again, err := d.Install(t.Context(), from, o)
	if err != nil || !again.Already || first.Already || again.Installed.Digest != first.Installed.Digest {
		t.Fatalf("got %+v (%v)", again, err)
	}
	if string(lock(t, d).Bytes()) != string(before) {
		t.Error("the lock file changed")
	}
	if names := storeNames(t, d); len(names) != 1 {
		t.Errorf("store holds %v", names)
	}
}

func TestInstallRepairsADamagedCopy(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	from := newPlugin(t, "tokens/file", "1.0.0", "x", "")
	r := put(t, d, from)
	program := filepath.Join(d.StorePath(r.Installed.Digest), "bin/file")
	damage(t, program)
	found, err := d.Verify(t.Context(), nil)
	if err != nil || len(found) != 1 || found[0].Path != program || !errors.Is(found[0], ErrRefused) ||
		!strings.Contains(found[0].Error(), "plugin tokens/file 1.0.0 is not the one that was installed: "+program) {
		t.Fatalf("findings %v (%v)", found, err)
	}
	put(t, d, from)
	if found, err := d.Verify(t.Context(), nil); err != nil || len(found) != 0 {
		t.Errorf("findings %v (%v)", found, err)
	}
	if _, err := d.Sweep(t.Context()); err != nil || len(storeNames(t, d)) != 1 {
		t.Errorf("store holds %v (%v)", storeNames(t, d), err)
	}
}

// damage changes a stored file the way root could.
func damage(t *testing.T, p string) {
	t.Helper()
	for _, err := range []error{
		os.Chmod(filepath.Dir(p), 0o755), os.Chmod(p, 0o755), os.WriteFile(p, []byte("evil"), 0o755),
		os.Chmod(p, 0o555), os.Chmod(filepath.Dir(p), 0o555),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(t *testing.T, folder string)
		options func(*Options)
		want    string
		refused bool
	}{
		"no manifest": {func(t *testing.T, f string) { ok(t, os.Remove(f+"/plugin.yaml")) }, nil, "is no plugin's folder", false},
		"linked manifest": {func(t *testing.T, f string) {
			ok(t, os.Rename(f+"/plugin.yaml", f+"/p"))
			ok(t, os.Symlink("p", f+"/plugin.yaml"))
		}, nil, "is not a plain file", false},
		"piped manifest": {func(t *testing.T, f string) {
			ok(t, os.Remove(f+"/plugin.yaml"))
			ok(t, syscall.Mkfifo(f+"/plugin.yaml", 0o644))
		}, nil, "is not a plain file", false},
		"large manifest": {func(t *testing.T, f string) { ok(t, os.Truncate(f+"/plugin.yaml", manifest.MaxSize+1)) }, nil, "larger than", false},
		"bad manifest":   {func(t *testing.T, f string) { ok(t, os.WriteFile(f+"/plugin.yaml", []byte("kind: x"), 0o644)) }, nil, "plugin.yaml:1: kind: must be Plugin", false},
		"program":        {func(t *testing.T, f string) { ok(t, os.WriteFile(f+"/bin/vault", []byte("evil"), 0o755)) }, nil, "sha256 of bin/vault is ", true},
		"no program":     {func(t *testing.T, f string) { ok(t, os.Remove(f+"/bin/vault")) }, nil, "its program bin/vault for this machine is missing", true},
		"not executable": {func(t *testing.T, f string) { ok(t, os.Chmod(f+"/bin/vault", 0o644)) }, nil, "bin/vault is not executable", true},
		"link":           {func(t *testing.T, f string) { ok(t, os.Symlink("/etc/shadow", f+"/x")) }, nil, "symbolic link", true},
		"pipe":           {func(t *testing.T, f string) { ok(t, syscall.Mkfifo(f+"/x", 0o644)) }, nil, "pipe", true},
		"setuid":         {func(t *testing.T, f string) { ok(t, os.Chmod(f+"/bin/vault", 0o755|os.ModeSetuid)) }, nil, "setuid", true},
		"giant": {func(t *testing.T, f string) {
			ok(t, os.WriteFile(f+"/x", nil, 0o644))
			ok(t, os.Truncate(f+"/x", 1<<40))
		}, nil, "larger than", true},
		"contract":     {nil, func(o *Options) { o.Host.Contracts = []string{"mk.certs.v2"} }, "speaks certs.v1, this mk speaks certs.v2", true},
		"machine":      {nil, func(o *Options) { o.Host.Arch = "arm64" }, "this machine is linux/arm64", true},
		"nobody asked": {nil, func(o *Options) { o.Consent = nil }, "nobody agreed", true},
		"declined":     {nil, func(o *Options) { o.Consent = func(*Proposal) error { return errors.New("no, thanks") } }, "no, thanks", false},
		"trial fails": {nil, func(o *Options) {
			o.Trial = trialFunc(func(context.Context, Candidate) (*Described, error) { return nil, errors.New("it hangs") })
		}, "plugin certs/vault 1.0.0 was not installed: it hangs", false},
		"it lies": {nil, func(o *Options) {
			o.Trial = trialFunc(func(_ context.Context, c Candidate) (*Described, error) {
				return &Described{Description: plugin.Description{Identity: c.Installed.Identity, Contracts: c.Installed.Contracts, Grants: plugin.Grants{HostExec: true}}}, nil
			})
		}, "runs programs on the host", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDir(t)
			from := newPlugin(t, "certs/vault", "1.0.0", "one", "")
			o := options()
			if c.change != nil {
				c.change(t, from)
			}
			if c.options != nil {
				c.options(&o)
			}
			_, err := d.Install(t.Context(), from, o)
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrRefused) != c.refused {
				t.Errorf("got %v (refused: %t)\nwant %q", err, errors.Is(err, ErrRefused), c.want)
			}
			if names := storeNames(t, d); len(names) != 0 {
				t.Errorf("left %v", names)
			}
			if len(lock(t, d).Installed) != 0 {
				t.Error("it is installed")
			}
		})
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The manifest that was judged must be the one that is stored, and the program
// is judged by its copy.
func TestAFolderThatChangesDuringTheInstallIsRefused(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"manifest": "plugin.yaml", "program": "bin/vault"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDir(t)
			from := newPlugin(t, "certs/vault", "1.0.0", "one", "")
			o := options()
			o.reached = func(s Step) error {
				if s == StepResolve {
					ok(t, os.WriteFile(filepath.Join(from, file), []byte("# changed"), 0o755))
				}
				return nil
			}
			if _, err := d.Install(t.Context(), from, o); !errors.Is(err, ErrRefused) {
				t.Errorf("got %v", err)
			}
		})
	}
}

var errKilled = errors.New("killed")

// A killed install has happened or not, by whether the lock file names it; the
// next one clears what it left and succeeds.
func TestAnInstallKilledAnywhereIsTakenUp(t *testing.T) {
	t.Parallel()
	steps := []Step{StepResolve, StepCopy, StepVerify, StepStore, StepTrial, StepReceipt, StepLock, StepDone}
	for i, step := range steps {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			d := newDir(t)
			from := newPlugin(t, "certs/vault", "1.0.0", "one", "")
			kill(t, d, from, step)
			happened := i >= slices.Index(steps, StepLock)
			if got := len(lock(t, d).Installed) == 1; got != happened {
				t.Errorf("installed: %t", got)
			}
			if _, err := d.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := 0
			if happened {
				want = 1
			}
			if names := storeNames(t, d); len(names) != want {
				t.Errorf("store holds %v", names)
			}
			h, err := d.History("certs", "vault")
			ok(t, err)
			for _, e := range h {
				if (e.State == Done) != happened || e.State == Pending {
					t.Errorf("history: %+v", e)
				}
			}
			r := put(t, d, from)
			if r.Already != happened {
				t.Errorf("already: %t", r.Already)
			}
			if found, err := d.Verify(t.Context(), nil); err != nil || len(found) != 0 {
				t.Errorf("findings %v (%v)", found, err)
			}
		})
	}
}

// kill ends an install after a step without any of its clean-up.
func kill(t *testing.T, d *Dir, from string, at Step) {
	t.Helper()
	o := options()
	o.reached = func(s Step) error {
		if s == at {
			panic(errKilled)
		}
		return nil
	}
	// discard runs in a panic too: give its leftovers back, as a kill would.
	defer func() {
		if recover() == nil {
			t.Error("not killed")
		}
		if at == StepCopy || at == StepVerify {
			ok(t, os.MkdirAll(filepath.Join(d.path, "store", incomingPrefix+"left", "bin"), 0o700))
			ok(t, os.WriteFile(filepath.Join(d.path, "store", incomingPrefix+"left", "bin", "x"), nil, 0o444))
			ok(t, os.Chmod(filepath.Join(d.path, "store", incomingPrefix+"left", "bin"), 0o555))
		}
	}()
	_, _ = d.Install(t.Context(), from, o)
}

// Every write may be the one that fails.
func TestAFailingWriteInstallsNothing(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1} { // the pending receipt, the lock file
		d := newDir(t)
		from := newPlugin(t, "certs/vault", "1.0.0", "one", "")
		count := 0
		full := New(d.path, diskFiles{dir: d.path, fail: func(string) error {
			if count++; count > n {
				return syscall.ENOSPC
			}
			return nil
		}})
		if _, err := full.Install(t.Context(), from, options()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("write %d: %v", n, err)
		}
		if len(lock(t, d).Installed) != 0 {
			t.Errorf("write %d: installed", n)
		}
		put(t, d, from)
	}
}

func TestConsentIsAskedForWhatIsNew(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	var asked []*Proposal
	o := options()
	o.Consent = func(p *Proposal) error { asked = append(asked, p); return nil }
	for _, v := range []struct{ version, grants string }{
		{"1.0.0", "grants: {network: ['a:1']}"},
		{"1.1.0", "grants: {network: ['a:1']}"},
		{"1.2.0", "grants: {network: ['a:1', 'b:2']}"},
		{"1.3.0", "grants: {hostExec: true}"},
	} {
		if _, err := d.Install(t.Context(), newPlugin(t, "addons/x", v.version, v.version, v.grants), o); err != nil {
			t.Fatal(err)
		}
	}
	if len(asked) != 3 {
		t.Fatalf("asked %d times", len(asked))
	}
	if p := asked[0]; p.Previous != nil || p.Class != manifest.Contained || !slices.Equal(p.Widened, []string{"network: a:1"}) {
		t.Errorf("first: %+v", p)
	}
	if p := asked[1]; p.Previous.Version != "1.1.0" || !slices.Equal(p.Widened, []string{"network: b:2"}) {
		t.Errorf("second: %+v", p)
	}
	if p := asked[2]; p.Class != manifest.RootEquivalent || !slices.Equal(p.Reasons, []string{"runs programs on the host"}) {
		t.Errorf("third: %+v", p)
	}
}

func TestLimitsCanBeLower(t *testing.T) {
	t.Parallel()
	o := options()
	o.Limits = folder.Limits{Entries: 2, Bytes: 1 << 20, Path: 100}
	if _, err := newDir(t).Install(t.Context(), newPlugin(t, "certs/x", "1.0.0", "x", ""), o); !errors.Is(err, folder.ErrHostile) {
		t.Errorf("got %v", err)
	}
}
