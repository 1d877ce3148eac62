//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledStandIns kills the joiner, and the agent that serves it, before
// and behind each record of a join and of a leave, of a control-plane node, with
// a vote and without, and of a worker; and whoever leads the datastore, before each record of the
// joiner's. Each time the same words bring it to its end; then there are
// the members, nodes and objects that there should be and no others, each
// token was used once, and a node that left holds no key. What no join is
// about is stood for, so that with MK_CHAOS every record takes minutes;
// without it, kills are some records apart, and another run begins elsewhere.
func TestKilledStandIns(t *testing.T) {
	dist := standIns(t)
	for i, role := range []string{"control-plane", "worker", "no-vote"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, dist, 3+i, role)
			p.killJoins()
			p.abandoned()
			p.diesGivingUp()
			p.atOnce()
			p.removals()
			if role == "worker" {
				p.unheard()
			} else {
				p.lastCopy()
			}
		})
	}
}

// standIns is a distribution in which mk, its plugins and etcd are real, and
// everything else is stood for.
func standIns(t *testing.T) string {
	t.Helper()
	dist := distribution(t, map[string]string{
		"bin/kubelite": "standin", "bin/containerd": "standin", "bin/flanneld": "standin",
		"bin/kubelite.real": inOut(t, "bin/kubelite"), "plugins": inOut(t, "plugins"),
	})
	build(t, "-o", filepath.Join(dist, "bin/standin"), "mk8s.io/mk/tests/cluster/standin")
	return dist
}

// pair is a node that serves joins and one that comes and goes.
type pair struct {
	t           *testing.T
	server, m   *machine
	role        string
	here, away  map[string]bool // the keys of what is stored, with the second node and without it
	joins       int             // that came to their end
	join, leave []killPoint
}

// leads is who leads the datastore, killed while mk stands still.
const leads = "the leader"

// agents are the ways to kill the agent that serves: at its records, and where
// it writes into the cluster; and the file that says when.
func agents() map[string]string {
	return map[string]string{"the agent": ".crash", "the agent, writing,": ".crash-write"}
}

func (p *pair) told(who string) string { return p.server.Root + agents()[who] }

// newPair starts the server, has the other node come and go undisturbed, and
// notes what that leaves and where it can be killed. The first join is not
// like the others: a control plane that was alone begins to elect leaders, and
// nobody was removed yet.
func newPair(t *testing.T, dist string, number int, role string) *pair {
	t.Helper()
	all := network(t, number, 2)
	for _, m := range all {
		m.Out, m.Program = dist, filepath.Join(dist, "bin/mk")
	}
	p := &pair{t: t, server: all[0], m: all[1], role: role}
	t.Cleanup(func() {
		for who := range agents() {
			_ = os.Remove(p.told(who))
			_ = os.Remove(p.told(who) + ".log")
		}
	})
	p.server.run("mk", "start", "--name", "n1")
	p.m.run("mk", p.words()...)
	p.m.run("mk", "leave")
	p.join = p.pointsOf(p.words()...)
	p.joins = 2
	p.here = p.keys()
	p.leave = p.pointsOf("leave")
	p.away = p.keys()
	p.whole(false, "undisturbed")
	return p
}

// words join the second node with a token of their own.
func (p *pair) words() []string {
	switch p.role {
	case "worker": // which looks at no key; the others do
		invitation := p.server.invite("--worker")
		return []string{"join", invitation[:strings.LastIndexByte(invitation, '/')], "--name", "n2", "--worker", "--skip-verify"}
	case "no-vote":
		return []string{"join", p.server.invite(), "--name", "n2", "--no-vote"}
	}
	return []string{"join", p.server.invite(), "--name", "n2"}
}

// pointsOf runs mk to its end and answers where it and the agent that serves it
// can be killed.
func (p *pair) pointsOf(words ...string) []killPoint {
	p.t.Helper()
	own := filepath.Join(p.t.TempDir(), "records")
	logs := map[string]string{"mk": own}
	for who := range agents() {
		told := p.told(who)
		if err := errors.Join(os.RemoveAll(told+".log"), os.WriteFile(told, []byte("nowhere"), 0o600)); err != nil {
			p.t.Fatal(err)
		}
		defer os.Remove(told) //nolint:errcheck // a file of the test's
		logs[who] = told + ".log"
	}
	cmd := p.m.Command(p.t.Context(), "mk", words...)
	cmd.Env = append(cmd.Env, "MK_CRASH_LOG="+own)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		p.t.Fatalf("mk %s: %v\n%s", words[0], err, out)
	}
	var points []killPoint
	for who, log := range logs {
		data, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.t.Fatal(err)
		}
		p.t.Logf("mk %s: what %s writes\n%s", words[0], who, data)
		records := strings.Split(strings.TrimSpace(string(data)), "\n")
		if len(data) == 0 {
			records = nil
		}
		for i, r := range records {
			late := who == "mk" && i >= len(records)-2
			if who == "mk" {
				// Where one of two has just left the datastore, the other may not have written that down.
				left := words[0] == "leave" && strings.Contains(r, "record end ")
				points = append(points, killPoint{who: leads, at: fmt.Sprintf("stop:%d", i+1), late: late, always: left})
			}
			points = append(points, killPoint{who: who, at: fmt.Sprintf("before:%d", i+1), late: late},
				killPoint{who: who, at: fmt.Sprintf("after:%d", i+1), late: late, last: i == len(records)-1})
		}
	}
	slices.SortStableFunc(points, func(a, b killPoint) int { return strings.Compare(a.who, b.who) })
	return points
}

// killJoins has the second node come and go, killed each time elsewhere. Every
// third join that was killed is given up: its token is as good as before.
func (p *pair) killJoins() {
	p.t.Helper()
	join, leave := some(p.join, 6), some(p.leave, 6)
	began := time.Now()
	for i := range max(len(join), len(leave)) {
		begun, words := time.Now(), p.words()
		k := nth(join, i)
		p.t.Logf("mk join, %s; mk leave, %s", k, nth(leave, i))
		gone := i%3 == 2 && k.who == "mk" && !k.late
		if gone {
			p.writesArgument()
		}
		p.kill(k, words...)
		if err := p.m.secrets(); err != nil {
			p.t.Errorf("mk join, %s: %v", k, err)
		}
		if gone {
			p.giveUp(k)
		}
		p.finish(k, words...)
		p.joins++
		p.whole(true, "mk join, "+k.String())
		k = nth(leave, i)
		p.kill(k, "leave")
		if p.m.Started() {
			p.finish(k, "leave")
		}
		p.whole(false, "mk leave, "+k.String())
		if p.t.Failed() {
			return
		}
		p.t.Logf("both came to their end after %s", round(time.Since(begun)))
	}
	p.t.Logf("killed at %d records of a join and %d of a leave in %s", len(join), len(leave), round(time.Since(began)))
}

// removals has the other node remove the second one while it is well: drained,
// unless nobody wants that.
func (p *pair) removals() {
	p.t.Helper()
	for _, words := range [][]string{{"remove-node", "n2"}, {"remove-node", "n2", "--no-drain"}} {
		p.m.run("mk", p.words()...)
		p.joins++
		before := p.server.operations()
		p.server.run("mk", words...)
		if drained := p.server.stepDone(before, "remove-node", "drain n2"); drained != (len(words) == 2) {
			p.t.Errorf("mk %q: drained is %v", words, drained)
		}
		p.m.run("mk", "leave") // it was told that it is no node any more
		p.whole(false, strings.Join(words, " "))
	}
}

// unheard has a worker go while no node of the cluster answers.
func (p *pair) unheard() {
	p.t.Helper()
	p.m.run("mk", p.words()...)
	p.joins++
	p.server.run("mk", "stop")
	if _, err := p.m.try(2*time.Minute, "mk", "leave"); err == nil || !strings.Contains(err.Error(), "mk leave --force") {
		p.t.Errorf("a worker leaves a cluster that does not answer: %v", err)
	}
	p.m.run("mk", "leave", "--force", "--yes")
	p.server.run("mk", "start")
	p.server.run("mk", "remove-node", "n2", "--force")
	p.whole(false, "mk leave --force")
}

// lastCopy has the only node leave: with it go the cluster's data.
func (p *pair) lastCopy() {
	p.t.Helper()
	if _, err := p.server.try(time.Minute, "mk", "leave"); err == nil || !strings.Contains(err.Error(), "holds the last copy of the cluster's data") {
		p.t.Errorf("the only node leaves: %v", err)
	}
	if err := p.sameObjects(p.away); err != nil {
		p.t.Errorf("a leave that is refused: %v", err)
	}
	p.server.run("mk", "leave", "--force", "--yes")
	nothingLeft(p.t, p.server)
	if err := noKeys(p.server); err != nil {
		p.t.Errorf("the last node, left by force: %v", err)
	}
}

// giveUp takes a join back, unless it only goes forward: then that is said.
func (p *pair) giveUp(k killPoint) {
	p.t.Helper()
	forward := p.m.onlyForward()
	out, err := p.m.try(2*time.Minute, "mk", "leave")
	if now, e := os.ReadFile(filepath.Join(p.m.Root, "args/kubelet")); !forward && (e != nil || string(now) != byHand) {
		p.t.Errorf("a join, %s, is given up: the args file from before it is %q (%v)", k, now, e)
	}
	switch {
	case forward && (err == nil || !strings.Contains(err.Error(), "only goes forward")):
		p.t.Errorf("a join that only goes forward, %s, is given up: %v\n%s", k, err, out)
	case forward, err != nil && strings.Contains(err.Error(), "is no node"):
	case err != nil:
		p.t.Errorf("a join, %s, is given up: %v\n%s", k, err, out)
	default:
		p.whole(false, "mk join, "+k.String()+", given up")
	}
}

// onlyForward reports whether a join is under way that cannot be taken back.
func (m *machine) onlyForward() bool {
	for _, o := range m.operations() {
		if strings.Contains(o, `"verb": "join"`) && strings.Contains(o, `"state": "open"`) && strings.Contains(o, `"forward": true`) {
			return true
		}
	}
	return false
}

// finish has the same words come to their end.
func (p *pair) finish(k killPoint, words ...string) {
	p.t.Helper()
	out, err := p.m.try(3*time.Minute, "mk", words...)
	if err != nil && !strings.Contains(err.Error(), "belongs to a cluster already") { // it may have been killed at its very end
		p.t.Fatalf("mk %s, %s, once more: %v\n%s", words[0], k, err, out)
	}
}

// kill runs mk until somebody is killed, where somebody is to be; if that is the agent, it comes back,
// and mk goes on.
func (p *pair) kill(k killPoint, words ...string) {
	p.t.Helper()
	if k.who == "" {
		return
	}
	if k.who == "mk" {
		if err := p.m.killAt(p.t.Context(), k.at, k.last, words...); err != nil {
			p.t.Fatal(err)
		}
		return
	}
	if k.who == leads {
		p.killLeader(k, words...)
		return
	}
	told, daemon := p.told(k.who), p.server.daemon()
	if err := os.WriteFile(told, []byte(k.at), 0o600); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 4*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := p.m.Try(ctx, 3*time.Minute, "mk", words...)
		ended <- err
	}()
	p.server.eventually(3*time.Minute, func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", daemon)); err == nil && len(ended) == 0 {
			return errors.New("the agent is not killed")
		}
		return nil
	})
	if _, err := os.Stat(told); err == nil {
		_ = os.Remove(told) // mk came by with fewer records
	} else {
		p.server.run("mk", "start") // takes over what the daemon left running
	}
	err := <-ended
	switch {
	case err != nil && words[0] == "leave": // it waits for the agent
		p.t.Errorf("mk leave, %s: %v", k, err)
	case err != nil:
		p.t.Logf("mk %s, %s: %v", words[0], k, err)
	}
}

// killLeader kills the process that leads the datastore when mk has come to a
// record, before it goes on.
func (p *pair) killLeader(k killPoint, words ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 4*time.Minute)
	defer cancel()
	cmd := p.m.Command(ctx, "mk", words...)
	cmd.Env = append(cmd.Env, "MK_CRASH_AT="+k.at)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, time.Second
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var state string
	p.server.eventually(3*time.Minute, func() error {
		if state = stateOf(cmd.Process.Pid); state != "T" && len(ended) == 0 {
			return errors.New("mk does not come to " + k.at)
		}
		return nil
	})
	leader := p.m
	if state == "T" {
		leader = leaderOf(p.t, []*machine{p.server, p.m})
		signal(p.t, leader.pid("etcd"), syscall.SIGKILL)
		signal(p.t, cmd.Process.Pid, syscall.SIGCONT)
	}
	if err := <-ended; err != nil {
		p.t.Logf("mk %s, %s: %v\n%s", words[0], k, err, said.String())
	}
	if leader == p.server {
		p.server.run("mk", "restart", "etcd") // the next end is its first again, and followed by no longer pause
	}
}

// keys of all objects that are stored.
func (p *pair) keys() map[string]bool {
	p.t.Helper()
	out := map[string]bool{}
	for k := range p.objects() {
		out[k] = true
	}
	return out
}

func (p *pair) objects() map[string]json.RawMessage {
	p.t.Helper()
	text := p.server.run(filepath.Join(p.server.Out, "bin/kubelite"), "objects", p.server.Root)
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		p.t.Fatal(err)
	}
	return all
}

// whole wants the cluster to be as it should be, with the second node or
// without it.
func (p *pair) whole(joined bool, after string) {
	p.t.Helper()
	want, members := p.away, []string{"n1"}
	if joined {
		want = p.here
		if p.role == "control-plane" {
			members = append(members, "n2")
		}
	}
	for _, err := range []error{p.sameObjects(want), p.sameMembers(members), p.usedTokens()} {
		if err != nil {
			p.t.Errorf("%s: %v", after, err)
		}
	}
	if joined {
		return
	}
	nothingLeft(p.t, p.m)
	if err := noKeys(p.m); err != nil {
		p.t.Errorf("%s: %v", after, err)
	}
}

// sameObjects compares what is stored, and looks that no join is under way.
func (p *pair) sameObjects(want map[string]bool) error {
	all := p.objects()
	var errs []error
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if !want[k] {
			errs = append(errs, fmt.Errorf("%s is there: %s", k, all[k]))
		}
		if text := string(all[k]); strings.Contains(k, "#node.") && (!strings.Contains(text, `\"state\":\"joined\"`) || strings.Contains(text, "reservation") || strings.Contains(text, "takeBack")) {
			errs = append(errs, fmt.Errorf("the record of a node: %s", text))
		}
	}
	for k := range want {
		if all[k] == nil {
			errs = append(errs, fmt.Errorf("%s is gone", k))
		}
	}
	return errors.Join(errs...)
}

func (p *pair) sameMembers(want []string) error {
	var names []string
	for _, d := range heardMembers(p.server) {
		if d.Role != "voter" {
			return fmt.Errorf("a member does not vote: %+v", d)
		}
		names = append(names, d.Name)
	}
	if slices.Sort(names); !slices.Equal(names, want) {
		return fmt.Errorf("the datastore has the members %q, want %q", names, want)
	}
	return nil
}

// usedTokens wants as many tokens used as joins came to their end, and none
// held. One that is good is of a join that was given up.
func (p *pair) usedTokens() error {
	var all []struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
	if err := json.Unmarshal([]byte(p.server.run("mk", "token", "list", "--expired", "-o", "json")), &all); err != nil {
		return err
	}
	states := map[string]int{}
	for _, x := range all {
		states[x.State]++
	}
	if states["used"] != p.joins || states["used"]+states["good"] != len(all) || states["good"] > 1 {
		return fmt.Errorf("%d joins, and tokens %v", p.joins, states)
	}
	return nil
}

// noKeys looks that nothing of the cluster's is on a node that left.
func noKeys(m *machine) error {
	return filepath.WalkDir(m.Root, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, secret := range []string{"PRIVATE KEY", "BEGIN CERTIFICATE", "client-key-data", "token:"} {
			if strings.Contains(string(data), secret) {
				return fmt.Errorf("%s holds %q on a node that left", path, secret)
			}
		}
		return nil
	})
}
