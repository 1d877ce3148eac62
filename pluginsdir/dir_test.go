package pluginsdir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
)

// diskFiles is a Files for tests. It fails where fail says so.
type diskFiles struct {
	dir  string
	fail func(name string) error
}

func (d diskFiles) WriteFile(name string, data []byte, mode fs.FileMode) error {
	if d.fail != nil {
		if err := d.fail(name); err != nil {
			return err
		}
	}
	p := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o711); err != nil {
		return err
	}
	if err := os.WriteFile(p+".tmp", data, mode); err != nil {
		return err
	}
	return os.Rename(p+".tmp", p)
}

func (d diskFiles) Remove(name string) error {
	err := os.Remove(filepath.Join(d.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func newDir(t testing.TB) *Dir {
	t.Helper()
	p := filepath.Join(t.TempDir(), "plugins")
	return New(p, diskFiles{dir: p})
}

func host() manifest.Host {
	return manifest.Host{
		Contracts: []string{"mk.certs.v1", "mk.tokens.v1", "mk.clustering.v1", "mk.addons.v1"},
		Version:   "0.1.0", OS: "linux", Arch: "amd64",
	}
}

func options() Options {
	return Options{
		Host: host(), By: "lin", At: time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC),
		Consent: func(*Proposal) error { return nil },
	}
}

// pluginIn makes a plugin's folder.
func pluginIn(t testing.TB, folder, id, version, program, more string) string {
	t.Helper()
	kind, name, _ := strings.Cut(id, "/")
	sum := sha256.Sum256([]byte(program))
	if err := os.MkdirAll(folder+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	yaml := fmt.Sprintf(`apiVersion: mk8s.io/v1
kind: Plugin
identity: {kind: %s, name: %s, version: %q, description: for tests}
contracts: [mk.%s.v1]
platforms: [{os: linux, arch: amd64, bin: bin/%s, sha256: %q}]
%s`, kind, name, version, kind, name, hex.EncodeToString(sum[:]), more)
	for file, content := range map[string]string{"plugin.yaml": yaml, "bin/" + name: program} {
		mode := fs.FileMode(0o644)
		if file != "plugin.yaml" {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(folder, file), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func newPlugin(t testing.TB, id, version, program, more string) string {
	t.Helper()
	return pluginIn(t, t.TempDir(), id, version, program, more)
}

func put(t testing.TB, d *Dir, folder string) *Result {
	t.Helper()
	r, err := d.Install(t.Context(), folder, options())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func storeNames(t *testing.T, d *Dir) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(d.path, "store"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func lock(t *testing.T, d *Dir) *lockfile.Lock {
	t.Helper()
	l, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

type trialFunc func(context.Context, Candidate) (*Described, error)

func (f trialFunc) Try(ctx context.Context, c Candidate) (*Described, error) { return f(ctx, c) }
