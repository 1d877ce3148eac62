//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// knows lets the machine know another one by a name. The names of before stay.
func (m *machine) knows(server *machine) (name string, forget func()) {
	m.t.Helper()
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		m.t.Fatal(err)
	}
	hosts := filepath.Join(passable(m.t), "hosts")
	if err := os.WriteFile(hosts, append(before, "\n"+server.Address+" first.example\n"...), 0o644); err != nil { //nolint:gosec // host names
		m.t.Fatal(err)
	}
	m.run("mount", "--bind", hosts, "/etc/hosts")
	return "first.example", func() { m.run("umount", "/etc/hosts") }
}

// startAnd begins a command, has do done when a step of it is over, and waits
// for its end.
func (m *machine) startAnd(step string, do func(), words ...string) answered {
	m.t.Helper()
	before := m.operations()
	ctx, cancel := context.WithTimeout(m.t.Context(), toItsEnd)
	defer cancel()
	cmd := m.Command(ctx, "mk", words...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	began, done := time.Now(), false
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			if !done {
				m.t.Fatalf("mk %s ended before the end of %q was seen:\n%s", words[0], step, errs.String())
			}
			return answered{out.String(), errs.String(), cmd.ProcessState.ExitCode(), time.Since(began)}
		case <-tick.C:
			if !done && m.stepDone(before, words[0], step) {
				do()
				began, done = time.Now(), true
			}
		}
	}
}

// hangs stops the daemons of machines until resume is called.
func hangs(t *testing.T, machines ...*machine) (resume func()) {
	t.Helper()
	var pids []int
	for _, m := range machines {
		pids = append(pids, m.daemon())
	}
	for _, p := range pids {
		signal(t, p, syscall.SIGSTOP)
	}
	return func() {
		for _, p := range pids {
			signal(t, p, syscall.SIGCONT)
		}
	}
}

// joinHangs has the serving agent hang in the middle of a join: the joiner says
// who and where, takes its side back, and joins with the same words later.
func joinHangs(t *testing.T, server, m *machine, words []string) {
	t.Helper()
	resume := func() {}
	defer func() { resume() }()
	a := m.startAnd("take over the cluster's keys", func() { resume = hangs(t, server) }, words...)
	t.Logf("the serving agent hangs: %s", a)
	for _, want := range []string{"mk: cannot join: first.example:25000 does not answer", `at the step "become a member"`, "the token is not spent", "nothing is left here"} {
		if !strings.Contains(a.errs, want) || a.code != 4 {
			t.Errorf("it does not say %q, and exit 4", want)
		}
	}
	if a.took > 2*time.Minute {
		t.Errorf("it took %s", a.took)
	}
	if m.Started() {
		t.Error("a join that was taken back leaves a node behind")
	}
	nothingLeft(t, m)
	resume()
	resume = func() {}
	for _, d := range heardMembers(server) {
		if d.Role == "voter" && !strings.Contains(d.PeerAddress, server.Address+":") {
			t.Errorf("a member that is none votes: %+v", d)
		}
	}
}

// leaveHangs has all agents hang while a worker leaves: they may have heard of
// it or not. The leave stays open, and goes on with the same word.
func leaveHangs(t *testing.T, servers []*machine, m *machine) {
	t.Helper()
	resume := hangs(t, servers...)
	defer func() { resume() }()
	a := m.answer("leave", "--no-drain")
	t.Logf("all agents hang: %s", a)
	for _, want := range []string{"mk: cannot leave: no node of the cluster answers", `at the step "tell the cluster"`, servers[0].Address + ":25000 does not answer", "goes on where it stopped"} {
		if !strings.Contains(a.errs, want) || a.code != 4 {
			t.Errorf("it does not say %q, and exit 4", want)
		}
	}
	if _, err := m.try(time.Minute, "mk", "stop"); err == nil || !strings.Contains(err.Error(), "(leave) is not finished") {
		t.Errorf("a node that leaves stops: %v", err)
	}
	resume()
	resume = func() {}
	m.run("mk", "leave")
	nothingLeft(t, m)
	if m.Started() {
		t.Error("a node that has left is there")
	}
}

// undecided has nobody decide about a join. It ends by itself, and its token is
// as good as before.
func undecided(t *testing.T, server, m *machine, words ...string) {
	t.Helper()
	file := filepath.Join(server.Root, "plugins/settings/clustering-approve.json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(`{"timeout":"10s"}`), 0o600)); err != nil { //nolint:gosec // as the plugins' folder is
		t.Fatal(err)
	}
	// The agent keeps a plugin warm for a minute with the settings of before.
	server.run("mk", "plugin", "use", "clustering/approve")
	began := time.Now()
	_, err := m.try(2*time.Minute, "mk", words...)
	if err == nil || !strings.Contains(err.Error(), "nobody approved n5 within 10s") || m.Started() {
		t.Errorf("a join that nobody decides about: %v", err)
	}
	t.Logf("a join that nobody decides about ended after %s: %v", round(time.Since(began)), err)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}
