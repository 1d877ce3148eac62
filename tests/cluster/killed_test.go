//go:build cluster

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestKilled kills mk with SIGKILL at each boundary of two steps: of the first
// start, of refresh-certs and of a swap of plugins. Each time the next start
// reaches Ready, and others could read no secret. With MK_CHAOS it kills before
// and behind every record of the journal.
func TestKilled(t *testing.T) {
	dist := crashable(t)
	machines := []*machine{newMachine(t, 21, true), newMachine(t, 22, true)}
	for _, m := range machines {
		m.Program = filepath.Join(dist, "bin/mk")
	}
	m := machines[0]
	points := m.points("start")
	m.run("mk", "reset", "--all", "--yes")
	t.Run("first start", func(t *testing.T) { killFirstStarts(t, machines, points) })
	m.run("mk", "start")
	t.Run("refresh-certs", func(t *testing.T) {
		points := m.points("refresh-certs")
		for i, at := range points {
			killOnNode(t, m, at, i == len(points)-1, "refresh-certs")
		}
	})
	t.Run("swap of plugins", func(t *testing.T) { killSwaps(t, m, dist) })
}

// crashable is a distribution whose mk kills itself where it is told.
func crashable(t *testing.T) string {
	t.Helper()
	links := map[string]string{"plugins": inOut(t, "plugins"), "images": inOut(t, "images")}
	programs, err := filepath.Glob(inOut(t, "bin/*"))
	if err != nil || len(programs) == 0 {
		t.Fatalf("the programs are needed: make build (%v)", err)
	}
	for _, p := range programs {
		links["bin/"+filepath.Base(p)] = p
	}
	delete(links, "bin/mk")
	return distribution(t, links)
}

// distribution is a folder of links, by name, beside an mk that kills itself
// where it is told.
func distribution(t *testing.T, links map[string]string) string {
	t.Helper()
	dist := passable(t)
	if err := os.MkdirAll(filepath.Join(dist, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dist, name)); err != nil {
			t.Fatal(err)
		}
	}
	build(t, "-tags", "crashpoint", "-o", filepath.Join(dist, "bin/mk"), "mk8s.io/mk/cmd/mk")
	return dist
}

// inOut is the path of what the build has made.
func inOut(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../out", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func build(t *testing.T, words ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-buildvcs=false"}, words...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// points runs a command to its end and answers where it can be killed.
func (m *machine) points(words ...string) []string {
	m.t.Helper()
	log := filepath.Join(m.t.TempDir(), "records")
	cmd := m.Command(m.t.Context(), "mk", words...)
	cmd.Env = append(cmd.Env, "MK_CRASH_LOG="+log)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		m.t.Fatalf("mk %s: %v\n%s", strings.Join(words, " "), err, out)
	}
	f, err := os.Open(log)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	var records []string
	for s := bufio.NewScanner(f); s.Scan(); {
		records = append(records, s.Text())
	}
	m.t.Logf("mk %s writes %d records:\n%s", strings.Join(words, " "), len(records), strings.Join(records, "\n"))
	var out []string
	for i, r := range records {
		if os.Getenv("MK_CHAOS") != "" {
			out = append(out, fmt.Sprintf("before:%d", i+1))
		}
		if os.Getenv("MK_CHAOS") != "" || strings.Contains(r, " rename ") {
			out = append(out, fmt.Sprintf("after:%d", i+1))
		}
	}
	if len(out) < 2 {
		m.t.Fatalf("mk %s has %d records", strings.Join(words, " "), len(records))
	}
	return out
}

// killFirstStarts has the machines take turns.
func killFirstStarts(t *testing.T, machines []*machine, points []string) {
	next := make(chan string)
	var workers sync.WaitGroup
	for _, m := range machines {
		workers.Go(func() {
			for at := range next {
				if err := killFirstStart(t.Context(), m, at, at == points[len(points)-1]); err != nil {
					t.Errorf("first start, killed %s: %v", at, err)
				}
			}
		})
	}
	for _, at := range points {
		next <- at
	}
	close(next)
	workers.Wait()
}

func killFirstStart(ctx context.Context, m *machine, at string, last bool) error {
	began := time.Now()
	if err := m.killAt(ctx, at, last, "start", "--name", "first"); err != nil {
		return err
	}
	if err := m.secrets(); err != nil {
		return err
	}
	killed := time.Since(began)
	if _, err := m.Try(ctx, 5*time.Minute, "mk", "start"); err != nil {
		return err
	}
	m.t.Logf("killed %s after %s, Ready after another %s", at, killed.Round(time.Millisecond), (time.Since(began) - killed).Round(time.Millisecond))
	err := m.whole(ctx)
	if _, resetErr := m.Try(ctx, 3*time.Minute, "mk", "reset", "--all", "--yes"); resetErr != nil {
		return errors.Join(err, resetErr)
	}
	return err
}

// whole reports whether a node that was started works and keeps its secrets.
func (m *machine) whole(ctx context.Context) error {
	out, err := m.Try(ctx, time.Minute, "mk", "kubectl", "get", "nodes", "-o", `jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{end}`)
	if err == nil && out != "True" {
		err = fmt.Errorf("nodes that are Ready: %q", out)
	}
	if err != nil {
		return err
	}
	// A machine that stalls may have it give up a question after a second or two.
	for began := time.Now(); ; {
		out, err = m.Try(ctx, time.Minute, "mk", "status")
		if err == nil && !strings.Contains(out, "is not finished") {
			break
		}
		if err == nil {
			err = errors.New("an operation is open")
		}
		if time.Since(began) > time.Minute {
			return fmt.Errorf("mk status: %w\n%s", err, out)
		}
	}
	if out, err = m.Try(ctx, time.Minute, "mk", "doctor", "certs", "args", "plugins", "permissions", "--check"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return m.secrets()
}

// errSurvived says that mk came to its end before it killed itself.
var errSurvived = errors.New("mk came to its end")

// killAt is kill at one of the points that a run to its end had. Behind its
// last record mk may come to its end before it sees that it is there.
func (m *machine) killAt(ctx context.Context, at string, last bool, words ...string) error {
	err := m.kill(ctx, at, words...)
	if last && errors.Is(err, errSurvived) {
		return nil
	}
	return err
}

// kill runs mk and wants it to kill itself there.
func (m *machine) kill(ctx context.Context, at string, words ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := m.Command(ctx, "mk", words...)
	cmd.Env = append(cmd.Env, "MK_CRASH_AT="+at)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		err = errSurvived
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || ctx.Err() != nil {
		return fmt.Errorf("mk %s did not kill itself %s: %w\n%s", strings.Join(words, " "), at, err, out)
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGKILL {
		return fmt.Errorf("mk %s did not kill itself %s: %w\n%s", strings.Join(words, " "), at, err, out)
	}
	return nil
}

// killOnNode kills a command on a node that runs.
func killOnNode(t *testing.T, m *machine, at string, last bool, words ...string) {
	t.Helper()
	err := m.killAt(t.Context(), at, last, words...)
	if err == nil {
		err = m.secrets()
	}
	if err == nil {
		_, err = m.Try(t.Context(), 5*time.Minute, "mk", "start")
	}
	if err == nil {
		err = m.whole(t.Context())
	}
	if err != nil {
		t.Errorf("mk %s, killed %s: %v", strings.Join(words, " "), at, err)
	}
}

// killSwaps kills swaps between two versions of the clustering plugin.
func killSwaps(t *testing.T, m *machine, dist string) {
	next := passable(t)
	if err := os.MkdirAll(filepath.Join(next, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(next, "bin/etcd")
	build(t, "-ldflags", "-X main.version=0.9.0", "-o", program, "mk8s.io/mk/plugins/clustering-etcd")
	manifest, err := exec.CommandContext(t.Context(), program, "--manifest").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(next, "plugin.yaml"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	m.run("mk", "plugin", "install", next, "--yes")
	shipped, err := exec.CommandContext(t.Context(), filepath.Join(dist, "plugins/clustering-etcd/bin/etcd"), "--manifest").Output()
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{"clustering/etcd@" + version(t, manifest), "clustering/etcd@" + version(t, shipped)}
	points := m.points("plugin", "use", targets[0])
	for i, at := range points {
		target := targets[(i+1)%2]
		killOnNode(t, m, at, i == len(points)-1, "plugin", "use", target)
		m.run("mk", "plugin", "use", target) // comes to its end, whatever the kill left
	}
}

func version(t *testing.T, manifest []byte) string {
	t.Helper()
	for line := range strings.Lines(string(manifest)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "version:"); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	t.Fatalf("no version in %s", manifest)
	return ""
}

// secrets finds a file with a secret that others may read. What etcd
// keeps is behind a folder that others cannot pass; var/lib is containerd's and
// the kubelet's own.
func (m *machine) secrets() error {
	for _, closed := range []string{"var/kubernetes/backend", "var/journal", "credentials"} {
		info, err := os.Lstat(filepath.Join(m.Root, closed))
		if err == nil && info.Mode().Perm()&0o007 != 0 {
			return fmt.Errorf("others may pass through %s (%v)", closed, info.Mode())
		}
	}
	var found []string
	err := filepath.WalkDir(m.Root, func(p string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		rel, _ := filepath.Rel(m.Root, p)
		if d != nil && d.IsDir() && slices.Contains([]string{"var/lib", "var/kubernetes/backend/etcd"}, rel) {
			return filepath.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && m.secret(p, rel, info) && info.Mode().Perm()&^0o640 != 0 {
			found = append(found, fmt.Sprintf("others may read %s (%v)", rel, info.Mode()))
		}
		return err
	})
	if len(found) > 0 {
		return errors.Join(err, errors.New(strings.Join(found, "; ")))
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (m *machine) secret(path, rel string, info os.FileInfo) bool {
	for _, folder := range []string{"credentials/", "plugins/state/", "var/journal/"} {
		if strings.HasPrefix(rel, folder) {
			return true
		}
	}
	if info.Size() > 1<<20 {
		return false
	}
	data, err := os.ReadFile(path)
	return err == nil && (strings.Contains(string(data), "PRIVATE KEY") || strings.Contains(string(data), "client-key-data"))
}
