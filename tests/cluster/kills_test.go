//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
)

// steps of long work on a node, as its journal names them.
func joinSteps() []string {
	return []string{"find out name and addresses", "ask to join", "install the plugins", "take over the cluster's keys", "become a member", "start the services"}
}

func leaveSteps() []string {
	return []string{"look at the cluster", "drain the node", "leave the datastore", "tell the cluster"}
}

// operations are the records of a node's journal, by number.
func (m *machine) operations() map[int]string {
	files, _ := filepath.Glob(filepath.Join(m.Root, "var/journal/*/operation.json"))
	out := map[int]string{}
	for _, f := range files {
		number, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if data, readErr := os.ReadFile(f); err == nil && readErr == nil {
			out[number] = string(data)
		}
	}
	return out
}

// stepDone reports whether an operation that was not there before is past a
// step. The agent has operations of its own.
func (m *machine) stepDone(before map[int]string, verb, step string) bool {
	for number, text := range m.operations() {
		if _, was := before[number]; !was && strings.Contains(text, `"verb": "`+verb+`"`) && strings.Contains(text, `"name": "`+step+`"`) {
			return true
		}
	}
	return false
}

// toItsEnd is how long mk is run again and again: what was killed under it, and
// killed again before it was back, takes its time to come back.
const toItsEnd = 6 * time.Minute

// atSteps runs mk, again and again until it succeeds. Each time that one of
// the steps is done the first time, it does something to whoever works.
func (m *machine) atSteps(steps []string, do func(step string, mk *exec.Cmd), words ...string) {
	m.t.Helper()
	next, before := 0, m.operations()
	again := time.NewTicker(time.Second) // as a person would: the next try waits for it
	defer again.Stop()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*toItsEnd)
	defer cancel()
	for began := time.Now(); time.Since(began) < toItsEnd; <-again.C {
		cmd := m.Command(ctx, "mk", words...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			m.t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var err error
		tick := time.NewTicker(5 * time.Millisecond)
		for running := true; running; {
			select {
			case err = <-ended:
				running = false
			case <-tick.C:
				if next < len(steps) && m.stepDone(before, words[0], steps[next]) {
					// It is held meanwhile: it would run past the next steps while
					// the leader is looked for.
					_ = cmd.Process.Signal(syscall.SIGSTOP)
					do(steps[next], cmd)
					_ = cmd.Process.Signal(syscall.SIGCONT)
					next++
				}
			}
		}
		tick.Stop()
		if err == nil {
			if next < len(steps) {
				m.t.Errorf("mk %s came to its end before %q was seen to be done", words[0], steps[next])
			}
			return
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
			m.t.Logf("mk %s ended with %d: %s", words[0], exit.ExitCode(), said.String())
		}
	}
	m.t.Fatalf("mk %s does not come to its end", strings.Join(words, " "))
}

// killedOnBothSides has a control-plane node leave and join while mk itself,
// the agent that serves it, or the leader of the datastore are killed behind
// every step. The same words bring it to its end, with the same token, and
// nothing half done is left.
func killedOnBothSides(t *testing.T, members []*machine, name string) {
	server, m := members[0], members[len(members)-1]
	self := func(_ string, mk *exec.Cmd) { // nsenter has become mk: the pid is its own
		if err := mk.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	}
	var again sync.WaitGroup
	agent := func(string, *exec.Cmd) {
		again.Wait()
		signal(t, server.daemon(), syscall.SIGKILL)
		again.Go(func() { // takes over what the daemon left running
			if _, err := server.try(5*time.Minute, "mk", "start"); err != nil {
				t.Error(err)
			}
		})
	}
	leader := func(string, *exec.Cmd) { signal(t, leaderOf(t, members).pid("etcd"), syscall.SIGKILL) }
	for _, c := range []struct {
		who         string
		leave, join func(string, *exec.Cmd)
	}{{"mk itself", self, self}, {"the serving agent", agent, agent}, {"the leader", leader, leader}} {
		began := time.Now()
		m.atSteps(leaveSteps(), c.leave, "leave")
		again.Wait()
		nothingLeft(t, m)
		wholeCluster(t, server, 4, 2)
		m.atSteps(joinSteps(), c.join, "join", server.invite(), "--name", name)
		again.Wait()
		wholeCluster(t, server, 5, 3)
		t.Logf("left and joined in %s while %s was killed behind every step", round(time.Since(began)), c.who)
	}
}

// killedAtRecords has a worker leave and join while mk kills itself behind the
// records of its journal; with MK_CHAOS before and behind each of them. Every
// second join that was killed is given up: its token is as good as before.
func killedAtRecords(t *testing.T, server, m *machine, name string) {
	m.Program = filepath.Join(crashable(t), "bin/mk")
	defer func() { m.Program = "" }() // it goes before the machine does
	join := func() []string { return []string{"join", server.invite("--worker"), "--worker", "--name", name} }
	leavePoints := m.points("leave")
	leavePoints = leavePoints[:len(leavePoints)-2] // then the journal is about to go, too
	joinPoints := m.points(join()...)
	began := time.Now()
	for i := range max(len(leavePoints), len(joinPoints)) {
		at := leavePoints[i%len(leavePoints)]
		if err := m.kill(t.Context(), at, "leave"); err != nil {
			t.Fatalf("mk leave, killed %s: %v", at, err)
		}
		if m.Started() {
			m.run("mk", "leave")
		}
		nothingLeft(t, m)
		nodesReady(t, server, 4)
		words := join()
		at = joinPoints[i%len(joinPoints)]
		if err := m.killAt(t.Context(), at, at == joinPoints[len(joinPoints)-1], words...); err != nil {
			t.Fatalf("mk join, killed %s: %v", at, err)
		}
		if err := m.secrets(); err != nil {
			t.Errorf("mk join, killed %s: %v", at, err)
		}
		if i%2 == 1 && i < len(joinPoints)-3 {
			m.run("mk", "leave")
			nothingLeft(t, m)
			nodesReady(t, server, 4)
		}
		if out, err := m.try(5*time.Minute, "mk", words...); err != nil && !strings.Contains(err.Error(), "belongs to a cluster already") {
			t.Fatalf("mk join, after one killed %s: %v\n%s", at, err, out) // it may have been killed at its very end
		}
		nodesReady(t, server, 5)
	}
	t.Logf("killed a worker's leave at %d records and its join at %d in %s", len(leavePoints), len(joinPoints), round(time.Since(began)))
}

// killPoint is where somebody is killed.
type killPoint struct {
	who, at string // mk, or one of agents; before:N or after:N
	late    bool   // mk has told the cluster that it is at its end
	last    bool
	always  bool // in every run
}

// String is for people.
func (k killPoint) String() string {
	if k.who == "" {
		return "undisturbed"
	}
	return k.who + " killed " + k.at
}

// nth is a point, or nobody's behind the last.
func nth(points []killPoint, i int) (k killPoint) {
	if i < len(points) {
		k = points[i]
	}
	return k
}

// some are all points with MK_CHAOS, else a few, each time others, and those
// that are always among them.
func some(points []killPoint, few int) []killPoint {
	if os.Getenv("MK_CHAOS") != "" || len(points) <= few {
		return points
	}
	stride := len(points) / few
	begin := int(time.Now().Unix()) % stride
	var out []killPoint
	for i, k := range points {
		if k.always || i%stride == begin {
			out = append(out, k)
		}
	}
	return out
}

// daemon is the process that keeps the services up and answers other nodes.
func (m *machine) daemon() int {
	m.t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		data, err := os.ReadFile(f)
		if err == nil && string(data) == "mk\x00--root="+m.Root+"\x00daemon\x00" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			return pid
		}
	}
	m.t.Fatal("no daemon runs")
	return 0
}

// leaderOf is the machine whose etcd leads.
func leaderOf(t *testing.T, members []*machine) *machine {
	t.Helper()
	var found *machine
	members[0].eventually(time.Minute, func() error {
		for _, m := range members {
			if !m.Started() {
				continue
			}
			for _, d := range datastoreMembers(m) {
				for _, x := range members {
					if d.Leader && strings.Contains(d.PeerAddress, x.Address+":") {
						found = x
						return nil
					}
				}
			}
		}
		return errors.New("nobody leads the datastore")
	})
	return found
}

type datastoreMember struct {
	Name        string `json:"name"`
	PeerAddress string `json:"peerAddress"`
	Role        string `json:"role"`
	Leader      bool   `json:"leader"`
}

func datastoreMembers(m *machine) []datastoreMember {
	out, err := m.try(20*time.Second, "mk", "datastore", "status", "-o", "json")
	if err != nil {
		return nil
	}
	var list struct {
		Members []datastoreMember `json:"members"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil
	}
	return list.Members
}

// heardMembers are the members of a datastore that answers, or is about to.
func heardMembers(m *machine) (all []datastoreMember) {
	m.t.Helper()
	m.eventually(time.Minute, func() error {
		if all = datastoreMembers(m); len(all) == 0 {
			return errText("nobody says who belongs to the datastore")
		}
		return nil
	})
	return all
}

// wholeCluster waits until that many nodes are Ready, and wants so many voting
// members of the datastore and nobody else in it.
func wholeCluster(t *testing.T, m *machine, nodes, voters int) {
	t.Helper()
	nodesReady(t, m, nodes)
	m.eventually(3*time.Minute, func() error {
		all := datastoreMembers(m)
		for _, d := range all {
			if d.Role != "voter" {
				return fmt.Errorf("a member does not vote: %+v", d)
			}
		}
		if len(all) != voters {
			return fmt.Errorf("the datastore has the members %+v", all)
		}
		return nil
	})
}
