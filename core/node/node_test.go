package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func create(t *testing.T, o Options) *Root {
	t.Helper()
	r, err := Create(filepath.Join(t.TempDir(), "mk"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestCreateIsIdempotentAndSetsModes(t *testing.T) {
	t.Parallel()
	for gid, want := range map[int]map[string]fs.FileMode{
		0:     {".": 0o711, "plugins/state": 0o711, "credentials": 0o700, "var/journal": 0o700, "var/lock": 0o755, "certs/.": 0o700},
		61998: {".": 0o751, "plugins/state": 0o751, "credentials": 0o750, "var/journal": 0o750, "var/kubernetes/backend": 0o750, "var/lock": 0o755, "certs/.": 0o750},
	} {
		r := create(t, Options{GID: gid})
		if err := r.WriteFile("args/kubelet", []byte("--v=2\n"), r.Secret()); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(r.Path("credentials"), 0o777); err != nil {
			t.Fatal(err)
		}
		again, err := Create(r.Dir(), Options{GID: gid})
		if err != nil {
			t.Fatal(err)
		}
		for name, mode := range want {
			if info, err := again.Stat(name); err != nil || info.Mode().Perm() != mode {
				t.Errorf("group %d: %s is %v, %v; want %v", gid, name, info.Mode().Perm(), err, mode)
			}
		}
		if data, err := again.ReadFile("args/kubelet"); err != nil || string(data) != "--v=2\n" {
			t.Errorf("content %q, %v", data, err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made := func(name string, mode fs.FileMode, uid int) string {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(p, 0o755), os.Chown(p, uid, -1), os.Chmod(p, mode)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(made("real", 0o755, -1), link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"mk": "absolute", "": "absolute", "/": "not be /", dir + "/a/": "written as", dir + "/../x": "written as", dir + "//x": "written as",
		link: "symbolic link", file: "not a folder", made("open", 0o777, -1): "written by everyone", made("sticky", 0o1777|fs.ModeSticky, -1): "everyone",
		made("theirs", 0o755, 61000): "belongs to uid 61000", filepath.Join(made("openparent", 0o777, -1), "mk"): "written by everyone",
		filepath.Join(made("theirparent", 0o755, 61000), "mk"): "belongs to uid", dir + "/a\nb": "line break",
	} {
		r, err := Create(p, Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", p, r, err, want)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "real")); err != nil || len(entries) != 0 {
		t.Errorf("something was made: %v, %v", entries, err)
	}
}

func TestOpenWithoutANode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, p := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := Open(p, Options{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", p, err)
		}
	}
	r := create(t, Options{})
	o, err := Open(r.Dir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.LoadRecord(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a record: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	r := &Root{dir: "/var/lib/mk"}
	for got, want := range map[string]string{
		r.Args("kubelet"): "/var/lib/mk/args/kubelet", r.Certs("ca.crt"): "/var/lib/mk/certs/ca.crt", r.Locks(): "/var/lib/mk/var/lock",
		r.Backend("init.yaml"): "/var/lib/mk/var/kubernetes/backend/init.yaml", r.PluginState("certs", "local"): "/var/lib/mk/plugins/state/certs/local",
		r.Logs("etcd"): "/var/lib/mk/var/log/etcd.log", r.RecordFile(): "/var/lib/mk/node.json", r.RunDir("a", "b"): "/run/mk/" + r.ID() + "/a/b",
		r.CgroupRoot(): "/mk/" + r.ID(), r.Credentials("client.config"): "/var/lib/mk/credentials/client.config",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if len(r.ID()) != 8 || r.ID() == (&Root{dir: "/var/lib/mk2"}).ID() {
		t.Errorf("ID is %s", r.ID())
	}
}

func TestNothingEscapes(t *testing.T) {
	t.Parallel()
	r := create(t, Options{})
	outside := t.TempDir()
	if err := os.Symlink(outside, r.Path("args/out")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../x", "/etc/x", "args/../../x", "args/out/x", "", ".", "args//x", "a\x00b"} {
		_, staged := r.Stage(name, nil, r.Public())
		for what, err := range map[string]error{
			"write": r.WriteFile(name, []byte("x"), r.Public()), "mkdir": r.Mkdir(name, Perm{Mode: 0o700, UID: -1, GID: -1}),
			"link": r.Symlink("x", name), "stage": staged, "rename": r.Rename("args", name),
		} {
			if err == nil {
				t.Errorf("%s %q: no error", what, name)
			}
		}
	}
	if err := r.RemoveAll("args/out"); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

func TestWriteStageCommitAndBack(t *testing.T) {
	t.Parallel()
	r := create(t, Options{GID: 61998})
	digest := func(name string) string {
		d, err := r.Digest(name)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	if digest("args/x") != Absent {
		t.Error("not absent")
	}
	must(r.WriteFile("args/x", []byte("old"), r.Secret()))
	old, tree := digest("args/x"), digest("args")
	info, err := r.Stat("args/x")
	if err != nil || info.Mode() != 0o640 || info.Sys().(*syscall.Stat_t).Gid != 61998 {
		t.Errorf("mode %v, %v", info, err)
	}
	staged, err := r.Stage("args/x", []byte("new"), r.Secret())
	if err != nil || !IsTemporary(staged) || digest("args/x") != old || digest("args") != tree {
		t.Errorf("staged %s, %v", staged, err)
	}
	must(r.LinkOld("args/x", "args/.mk-old-x"), r.LinkOld("args/x", "args/.mk-old-x"), r.Commit(staged, "args/x"))
	if digest("args/x") == old || digest("args") == tree {
		t.Error("the digest did not change")
	}
	if err := r.Commit(staged, "args/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("commit twice: %v", err)
	}
	must(r.Rename("args/.mk-old-x", "args/x"))
	if digest("args/x") != old || digest("args") != tree {
		t.Error("not as before")
	}
	must(r.Symlink("a", "args/l"), r.Symlink("b", "args/l"))
	if digest("args/l") != "link:b" {
		t.Errorf("link is %s", digest("args/l"))
	}
	for _, p := range []Perm{{}, {Mode: fs.ModeSetuid | 0o700}, {Mode: 0o600, UID: -2}} {
		if err := r.WriteFile("args/x", nil, p); err == nil {
			t.Errorf("perm %v is taken", p)
		}
	}
	must(syscall.Mkfifo(r.Path("args/pipe"), 0o600))
	if _, err := r.ReadFile("args/pipe"); err == nil || !strings.Contains(err.Error(), "pipe") {
		t.Errorf("pipe: %v", err)
	}
	must(os.Truncate(r.Path("args/x"), MaxFile+1))
	if _, err := r.ReadFile("args/x"); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("large: %v", err)
	}
}

// TestDrawer: what is made in it belongs to the admin group; it can be taken
// back, as where the group goes.
func TestDrawer(t *testing.T) {
	t.Parallel()
	gid := os.Getgid()
	if gid == 0 {
		gid = 1
	}
	r := create(t, Options{GID: gid, Group: "admins"})
	for _, p := range []Perm{r.Drawer(-1), {Mode: 0o700, UID: -1, GID: -1}} {
		if err := r.Mkdir("plugins/drawer", p); err != nil {
			t.Fatal(err)
		}
		info, err := r.Stat("plugins/drawer")
		if err != nil || info.Mode()&settable != p.Mode {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, p.Mode)
		}
	}
}

func TestSwitchCerts(t *testing.T) {
	t.Parallel()
	r := create(t, Options{})
	for i := range 4 {
		err := r.SwitchCerts(func(dir string) error {
			return r.WriteFile(dir+"/server.crt", fmt.Append(nil, i), r.Secret())
		})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := os.WriteFile(r.Certs("csr.conf.template"), []byte("mine"), 0o640); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, want := range map[string]string{"server.crt": "3", "csr.conf.template": "mine"} {
		if data, err := os.ReadFile(r.Certs(name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	boom := errors.New("boom")
	if err := r.SwitchCerts(func(string) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	entries, err := r.ReadDir("var/certs")
	if n, _ := r.CurrentCerts(); err != nil || n != 5 || len(entries) != 2 || entries[0].Name() != "4" {
		t.Errorf("generation %d, %v, %v", n, entries, err)
	}
	if _, err := r.NextCerts(5); err == nil {
		t.Error("the current generation is overwritten")
	}
}

func TestAdminGroup(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		there, setting, want string
		fails                bool
	}{{"mk microk8s", "", "mk", false}, {"microk8s", "", "microk8s", false}, {"", "", "", false}, {"mk ops", "ops", "ops", false}, {"mk", "ops", "", true}} {
		_, name, err := adminGroup(tt.setting, func(n string) (*user.Group, error) {
			if !strings.Contains(" "+tt.there+" ", " "+n+" ") {
				return nil, user.UnknownGroupError(n)
			}
			return &user.Group{Gid: "7", Name: n}, nil
		})
		if name != tt.want || (err != nil) != tt.fails {
			t.Errorf("%+v: %q, %v", tt, name, err)
		}
	}
}

func TestFindPrograms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mk, link := filepath.Join(dir, "dist/bin/mk"), filepath.Join(dir, "mk")
	if err := errors.Join(os.MkdirAll(filepath.Dir(mk), 0o755), os.WriteFile(mk, nil, 0o755), os.Symlink(mk, link)); err != nil {
		t.Fatal(err)
	}
	p, err := FindPrograms(link)
	if err != nil || p.CNI() != filepath.Join(dir, "dist/bin/cni") || p.Bin("mk") != mk {
		t.Errorf("%+v, %v", p, err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := FindPrograms(other); err == nil {
		t.Error("a program outside of bin/ is taken")
	}
}

const crashEnv = "MK_NODE_TEST_CRASH"

func TestMain(m *testing.M) {
	if v := os.Getenv(crashEnv); v != "" {
		n, dir, _ := strings.Cut(v, ":")
		left, err := strconv.Atoi(n)
		if err == nil {
			err = work(dir, func(string, string) {
				if left--; left < 0 {
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				}
			})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var secret = bytes.Repeat([]byte("s"), 5000)

func work(dir string, step func(string, string)) error {
	r, err := Create(dir, Options{Step: step, GID: 61998})
	if err != nil {
		return err
	}
	return errors.Join(
		r.SaveRecord(NewRecord("n1", time.Unix(1, 0))),
		r.SwitchCerts(func(d string) error {
			return errors.Join(r.WriteFile(d+"/server.key", secret, r.Secret()), r.WriteFile(d+"/server.crt", secret, r.Secret()))
		}), r.Close())
}

// TestKilledAtEveryStep kills a process before each of its changes; what is
// left is whole or absent, no secret is open, and doing it again completes it.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		dir := filepath.Join(t.TempDir(), "mk")
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+strconv.Itoa(n)+":"+dir)
		out, err := cmd.CombinedOutput()
		judge(t, n, dir)
		if err == nil {
			if n < 30 {
				t.Errorf("only %d steps", n)
			}
			return
		}
		if len(out) > 0 {
			t.Fatalf("step %d: %v %s", n, err, out)
		}
		if err := work(dir, nil); err != nil {
			t.Errorf("step %d: again: %v", n, err)
		}
	}
}

func judge(t *testing.T, n int, dir string) {
	t.Helper()
	key, errKey := os.ReadFile(dir + "/certs/server.key")
	crt, errCrt := os.ReadFile(dir + "/certs/server.crt")
	if (errKey == nil) != (errCrt == nil) || !bytes.Equal(key, crt) {
		t.Errorf("step %d: key and certificate apart: %v, %v", n, errKey, errCrt)
	}
	if r, err := Open(dir, Options{}); err == nil {
		if _, err := r.LoadRecord(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("step %d: %v", n, err)
		}
		_ = r.Close()
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(p, "server.") {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().Perm()&0o037 != 0 {
			t.Errorf("step %d: %s is %v", n, p, info.Mode())
		}
		return nil
	})
}

// The journal of before there was a group is open to it; redo logs are not.
func TestANewGroupReadsTheJournal(t *testing.T) {
	t.Parallel()
	r := create(t, Options{})
	private := Perm{Mode: 0o700, UID: -1, GID: -1}
	file := Perm{Mode: 0o600, UID: -1, GID: -1}
	err := errors.Join(r.MkdirAll("var/journal/1", private), r.MkdirAll("var/journal/2", private), r.WriteFile("var/journal/stray", nil, file),
		r.WriteFile("var/journal/1/operation.json", []byte("{}"), file), r.WriteFile("var/journal/1/1.log", nil, file), r.WriteFile("settings.yaml", nil, file))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Create(r.Dir(), Options{GID: 61998})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // only looked at
	for name, want := range map[string]fs.FileMode{
		"var/journal": 0o750, "var/journal/1": 0o750, "var/journal/1/operation.json": 0o640, "settings.yaml": 0o640,
		"var/journal/1/1.log": 0o600, "var/journal/stray": 0o600,
	} {
		if info, err := again.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s is %v, %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}
}
