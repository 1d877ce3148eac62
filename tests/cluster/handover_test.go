//go:build cluster

package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHandover has two control-plane nodes join at once, on machines that lack
// a plugin of the cluster: it comes by its digest, with the settings of all.
// What a person wrote on a machine before stays; what a join brought goes when
// it is given up. Kubernetes is stood for.
func TestHandover(t *testing.T) {
	dist := standIns(t)
	bareDist := lacking(t, dist, "clustering-approve")
	m := network(t, 10, 3)
	server, bare, own := m[0], m[1], m[2]
	for i, x := range m {
		x.Out = []string{dist, bareDist, bareDist}[i]
		x.Program = filepath.Join(x.Out, "bin/mk")
	}
	server.run("mk", "start", "--name", "n1")
	server.setting("certs-local", `{"lifetime":"720h"}`)
	server.setting("clustering-approve", `{"timeout":"20m"}`)
	own.setting("certs-local", `{"lifetime":"240h"}`)
	server.run("mk", "plugin", "use", "clustering/approve")

	words := []string{"join", server.invite(), "--name", "n3"}
	go approvePending(server, "n3")
	joinKilled(t, own, words, "take over the cluster's keys")
	own.hasSetting("clustering-approve", `{"timeout":"20m"}`)
	own.run("mk", "leave")
	own.hasSetting("certs-local", `{"lifetime":"240h"}`)
	own.hasSetting("clustering-approve", "")

	for _, name := range []string{"n2", "n3"} {
		go approvePending(server, name)
	}
	var both sync.WaitGroup
	for name, x := range map[string]*machine{"n2": bare, "n3": own} {
		words := []string{"join", server.invite(), "--name", name}
		both.Go(func() {
			a := x.answer(words...)
			t.Logf("mk join of %s, one of two at once: %s", name, a)
			if a.code != 0 {
				t.Errorf("mk join of %s, one of two at once", name)
			}
		})
	}
	both.Wait()
	if t.Failed() {
		return
	}
	if err := (&pair{server: server}).sameMembers([]string{"n1", "n2", "n3"}); err != nil {
		t.Error(err)
	}
	for x, days := range map[*machine]int{bare: 30, own: 10} {
		if out := x.run("mk", "plugin", "list"); !activeIn(out, "clustering/approve") || activeIn(out, "clustering/etcd") {
			t.Errorf("plugins of %s:\n%s", x.Machine.Name, out)
		}
		x.hasSetting("clustering-approve", `{"timeout":"20m"}`)
		if left := time.Until(x.certificateEnds("server")); left > time.Duration(days)*24*time.Hour {
			t.Errorf("a certificate of %s lives for another %s, not %d days", x.Machine.Name, left, days)
		}
	}
}

// lacking is a distribution without one of the plugins that another has.
func lacking(t *testing.T, dist, plugin string) string {
	t.Helper()
	out := passable(t)
	plugins, err := filepath.EvalSymlinks(filepath.Join(dist, "plugins"))
	if err == nil {
		err = errors.Join(os.CopyFS(filepath.Join(out, "plugins"), os.DirFS(plugins)), os.RemoveAll(filepath.Join(out, "plugins", plugin)),
			os.MkdirAll(filepath.Join(out, "bin"), 0o755)) //nolint:gosec // programs
	}
	programs, _ := filepath.Glob(filepath.Join(dist, "bin/*"))
	for _, p := range programs {
		to := filepath.Join(out, "bin", filepath.Base(p))
		if filepath.Base(p) == "mk" { // it looks beside itself, and through links
			err = errors.Join(err, os.Link(p, to))
			continue
		}
		err = errors.Join(err, os.Symlink(p, to))
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (m *machine) settingFile(plugin string) string {
	return filepath.Join(m.Root, "plugins/settings", plugin+".json")
}

// setting writes the settings of a plugin as a person does.
func (m *machine) setting(plugin, text string) {
	m.t.Helper()
	file := m.settingFile(plugin)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil { //nolint:gosec // as the plugins' folder is
		m.t.Fatal(err)
	}
}

// hasSetting wants the settings of a plugin, for root alone, or none.
func (m *machine) hasSetting(plugin, want string) {
	m.t.Helper()
	file := m.settingFile(plugin)
	data, err := os.ReadFile(file)
	if string(data) != want || (err != nil) != (want == "") {
		m.t.Errorf("settings of %s on %s: %q, %v, want %q", plugin, m.Machine.Name, data, err, want)
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm() != 0o600 {
		m.t.Errorf("%s has the mode %s", file, info.Mode())
	}
}

func activeIn(list, plugin string) bool {
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == plugin && f[2] == "yes" {
			return true
		}
	}
	return false
}

func (m *machine) certificateEnds(name string) time.Time { return m.certificate(name).NotAfter }

func (m *machine) serial(name string) string { return m.certificate(name).SerialNumber.String() }

func (m *machine) certificate(name string) *x509.Certificate {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(m.Root, "certs", name+".crt"))
	if err != nil {
		m.t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		m.t.Fatalf("%s.crt is no certificate", name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		m.t.Fatal(err)
	}
	return cert
}

// approvePending approves a join as soon as it waits. It is for a goroutine.
func approvePending(server *machine, name string) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	err := errors.New("it was not tried")
	for began := time.Now(); time.Since(began) < time.Minute; {
		var out string
		if out, err = server.try(20*time.Second, "mk", "node", "list", "--pending", "-o", "json"); err == nil {
			if !strings.Contains(out, `"name": "`+name+`"`) {
				err = fmt.Errorf("%s does not wait: %s", name, out)
			} else if _, err = server.try(20*time.Second, "mk", "node", "approve", name); err == nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-server.t.Context().Done():
			return
		}
	}
	server.t.Errorf("approve %s: %v", name, err)
}
