//go:build cluster

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tests "mk8s.io/mk/tests/machine"
)

// network plugs machines into one switch.
func network(t *testing.T, number, machines int) []*machine {
	t.Helper()
	out := inOut(t, "")
	n, err := tests.NewNetwork(t.Context(), number)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close(t.Context()) }) // it outlasts the test's context
	var all []*machine
	for i := range machines {
		m, err := n.Machine(t.Context(), out, passable(t), i+1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close(t.Context()) })
		own := &machine{Machine: m, t: t}
		t.Cleanup(own.remove)
		all = append(all, own)
	}
	return all
}

// invite answers a connection string of a node.
func (m *machine) invite(flags ...string) string {
	m.t.Helper()
	out := m.run("mk", append([]string{"add-node", "-o", "short"}, flags...)...)
	return strings.Fields(out)[2] // mk join STRING
}

// TestCluster grows one node to three control-plane nodes and two workers.
func TestCluster(t *testing.T) {
	m := network(t, 1, 5)
	sixth(m[0], m[3])
	m[0].run("mk", "start", "--name", "n1")
	for i, joiner := range m[1:3] {
		words := []string{"join", m[0].invite(), "--name", fmt.Sprintf("n%d", i+2)}
		forget := func() {}
		if i == 0 {
			// All of it through a host name.
			var server string
			server, forget = joiner.knows(m[0])
			words[1] = server + words[1][strings.IndexByte(words[1], ':'):]
			refused(t, joiner, words)
			hourOff(t, joiner, words)
			inTheWay(t, m[0], joiner, words)
			diskFills(t, m[0], joiner, words)
			joinHangs(t, m[0], joiner, words)
		} else {
			joinKilled(t, joiner, words, joinSteps()...)
		}
		t.Log(joiner.run("mk", words...))
		joinedNow(t, m[0], words[3], i+2)
		forget()
	}
	wholeCluster(t, m[0], 3, 3)
	if out := m[0].run("mk", "status"); !strings.Contains(out, "high-availability: yes") {
		t.Errorf("three nodes that vote:\n%s", out)
	}
	if _, err := m[1].try(time.Minute, "mk", "join", m[0].invite()); err == nil || !strings.Contains(err.Error(), "belongs to a cluster already") {
		t.Errorf("a member joins: %v", err)
	}
	worker := []string{"join", m[0].invite("--worker"), "--worker", "--name", "n5"}
	undecided(t, m[0], m[4], worker...)
	m[0].run("mk", "plugin", "use", "clustering/etcd")
	m[4].run("mk", worker...) // the token is as good as before
	leaveHangs(t, m[:3], m[4])
	together(t, m[0], []string{"--labels", "tier=edge", "--taints", "edge=yes:PreferNoSchedule", "--zone", "z1"}, map[string]*machine{"n4": m[3], "n5": m[4]})
	nodesReady(t, m[1], len(m))
	for _, x := range m {
		if out := x.run("mk", "status"); !strings.Contains(out, "mk is running") {
			t.Errorf("%s:\n%s", x.Machine.Name, out)
		}
	}
	if out := m[0].kubectl("get", "nodes", "-l", "tier=edge,topology.kubernetes.io/zone=z1", "-o", "jsonpath={.items[*].spec.taints[?(@.key==\"edge\")].effect}"); out != "PreferNoSchedule PreferNoSchedule" {
		t.Errorf("workers with their labels and taints: %q", out)
	}
	for _, x := range m[3:] {
		workersOwn(t, x)
	}
	open := firewalled(t, m)
	t.Run("pods reach pods of every node", func(t *testing.T) { acrossNodes(t, m) })
	for name, x := range map[string]*machine{"n5": m[4], "n3": m[2]} {
		t.Run("a node that was drained and stopped takes pods again: "+name, func(t *testing.T) { stopsDrained(t, m[0], x, name) })
	}
	t.Run("what the cluster wants", func(t *testing.T) { wanted(t, m) })
	t.Run("one of three is killed under writers", func(t *testing.T) { killedUnderWriters(t, m[:3]) })
	open()
	t.Run("a worker leaves and comes back, but not with a used token", func(t *testing.T) { usedToken(t, m[0], m[4]) })
	t.Run("a worker whose certificates have ended comes back", func(t *testing.T) { endedWorker(t, m[0], m[4], "n5") })
	t.Run("a control-plane node comes back without a vote", func(t *testing.T) { withoutVote(t, m[0], m[2], "n3") })
	t.Run("a control-plane node leaves and comes back while the leader moves", func(t *testing.T) { joinsWhileTheLeaderMoves(t, m[:2], m[2], "n3", m[3]) })
	t.Run("a leave and a join whose parties are killed", func(t *testing.T) { killedOnBothSides(t, m[:3], "n3") })
	t.Run("a worker's leave and join, killed at every record", func(t *testing.T) { killedAtRecords(t, m[0], m[4], "n5") })
	t.Run("a node whose pods must stay is not removed", func(t *testing.T) { notDrained(t, m[0], "n4", len(m)) })
	t.Run("a dead node is removed", func(t *testing.T) {
		m[3].run("mk", "stop")
		if out, err := m[0].try(time.Minute, "mk", "remove-node", "n9", "--force"); err == nil {
			t.Errorf("a node that never was is removed: %s", out)
		}
		removedGetsNothing(t, m[:3], m[3], "n4", "n1")
		nodesReady(t, m[0], len(m)-1)
	})
	t.Run("two of three disks gone", func(t *testing.T) { recovered(t, m, len(m)-1) })
}

// joinedNow wants a control-plane node to be Ready and to vote, without a wait:
// its join has succeeded.
func joinedNow(t *testing.T, server *machine, name string, voters int) {
	t.Helper()
	if ready := server.kubectl("get", "node", name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`); ready != "True" {
		t.Errorf("%s has joined, and is Ready: %q", name, ready)
	}
	all := datastoreMembers(server)
	if !slices.ContainsFunc(all, func(d datastoreMember) bool { return d.Name == name && d.Role == "voter" }) || len(all) != voters {
		t.Errorf("%s has joined, and the datastore has the members %+v", name, all)
	}
}

// refused tries joins that come to nothing, and leave nothing: a dry run, a
// wrong key, a name that is taken, a label that no node gives itself.
func refused(t *testing.T, m *machine, words []string) {
	t.Helper()
	m.run("mk", append([]string{"--dry-run"}, words...)...)
	pin := strings.LastIndexByte(words[1], '/') + 1
	for why, other := range map[string][]string{
		"is not the server":       {"join", words[1][:pin] + strings.Repeat("ab", 32)},
		"is taken":                {"join", words[1], "--name", "n1"},
		"cannot give itself":      {"join", words[1], "--labels", "node-role.kubernetes.io/control-plane=x"},
		"the token is unknown":    {"join", words[1][:pin-5] + "00000" + words[1][pin-1:]},
		"in the range of pods or": {"join", words[1], "--address", "10.152.183.9"},
	} {
		if _, err := m.try(time.Minute, "mk", other...); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("mk %s: %v, want %q", strings.Join(other[:1], " "), err, why)
		}
	}
	// Who does not want to know who answers is not told; a dry run shows it.
	for _, unknown := range []string{words[1][:pin] + strings.Repeat("ab", 32), words[1][:pin-1]} {
		m.run("mk", "--dry-run", "join", unknown, "--skip-verify")
	}
	if m.Started() {
		t.Error("a join that was refused leaves a node behind")
	}
}

// hourOff has a join go by a clock that the cluster's differs from by an hour:
// its Date, and for the slower one its certificate, are not of this time.
func hourOff(t *testing.T, m *machine, words []string) {
	t.Helper()
	defer func(before string) { m.Program = before }(m.Program)
	m.Program = filepath.Join(crashable(t), "bin/mk")
	for ahead, why := range map[string]string{"1h": "would end too early here", "-1h": "would not be valid here yet"} {
		if err := os.WriteFile(m.Root+".clock", []byte(ahead), 0o600); err != nil {
			t.Fatal(err)
		}
		a := m.answer(words...)
		t.Logf("a clock that is %s ahead: %s", ahead, a)
		if !strings.Contains(a.errs, "cannot join: clocks are 60 minutes apart") || !strings.Contains(a.errs, why) || a.code == 0 {
			t.Errorf("it does not say by how much, and %q", why)
		}
	}
	if err := os.Remove(m.Root + ".clock"); err != nil {
		t.Error(err)
	}
	if m.Started() {
		t.Error("a join that was refused leaves a node behind")
	}
}

// workersOwn looks that a worker holds nothing of the control plane, and lets
// nobody in.
func workersOwn(t *testing.T, m *machine) {
	t.Helper()
	for _, name := range []string{"plugins/store", "plugins/state/certs", "plugins/settings", "certs/serviceaccount.key", "var/kubernetes/backend/etcd"} {
		if _, err := os.Lstat(filepath.Join(m.Root, name)); err == nil {
			t.Errorf("a worker has %s", name)
		}
	}
	if _, err := m.try(time.Minute, "mk", "add-node"); err == nil || !strings.Contains(err.Error(), "a worker cannot invite others") {
		t.Errorf("a worker invites: %v", err)
	}
}

const guarded = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: guarded}
spec:
  selector: {matchLabels: {app: guarded}}
  template:
    metadata: {labels: {app: guarded}}
    spec:
      nodeSelector: {kubernetes.io/hostname: n4}
      terminationGracePeriodSeconds: 1
      containers: [{name: guarded, image: "mk.test/tools:1.0.0", imagePullPolicy: Never, args: [serve]}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guard}
spec: {minAvailable: 1, selector: {matchLabels: {app: guarded}}}
`

// notDrained removes a node of which a pod must not go: it says which, and the
// node takes pods as before.
func notDrained(t *testing.T, server *machine, name string, nodes int) {
	server.apply(guarded)
	server.kubectl("rollout", "status", "deployment/guarded", "--timeout=120s")
	out, err := server.try(2*time.Minute, "mk", "remove-node", name, "--timeout", "15s")
	if err == nil || !strings.Contains(err.Error(), "guard") {
		t.Errorf("a pod that must stay: %v\n%s", err, out)
	}
	if out := server.kubectl("get", "node", name, "-o", "jsonpath={.spec.unschedulable}"); out != "" {
		t.Errorf("%s takes no pods any more: %s", name, out)
	}
	nodesReady(t, server, nodes)
	server.kubectl("delete", "deployment/guarded", "poddisruptionbudget/guard")
}

// joinKilled kills a join each time that its journal says that one of these
// steps is done. The same words go on from there, with the same token.
func joinKilled(t *testing.T, m *machine, words []string, steps ...string) {
	t.Helper()
	for _, step := range steps {
		cmd := m.Command(t.Context(), "mk", words...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		m.eventually(toItsEnd, func() error {
			if !m.stepDone(nil, "join", step) {
				return fmt.Errorf("mk join is not at the end of %q", step)
			}
			return nil
		})
		// nsenter has become mk: the pid is its own.
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("kill mk join after %q: %v\n%s", step, err, said.String())
		}
		_ = cmd.Wait()
	}
}

// caughtUp waits until a node that has just joined has done what the cluster
// wants of every node: its agent does that behind the join, and what it
// restarts is away meanwhile.
func caughtUp(server *machine, name string) {
	server.t.Helper()
	server.eventually(2*time.Minute, func() error {
		out, err := server.try(20*time.Second, "mk", "node", "show", name, "-o", "json")
		if err == nil && strings.Contains(out, `"generation": 0`) {
			err = fmt.Errorf("%s has not done what is wanted:\n%s", name, out)
		}
		return err
	})
}

// nodesReady waits until so many nodes are there, all Ready.
func nodesReady(t *testing.T, m *machine, want int) {
	t.Helper()
	m.eventually(4*time.Minute, func() error {
		out, err := m.try(20*time.Second, "mk", "kubectl", "get", "nodes", "--no-headers")
		if err != nil {
			return err
		}
		if ready := strings.Count(out, " Ready "); ready != want || strings.Count(out, "\n") != want {
			return fmt.Errorf("%d nodes are Ready:\n%s", ready, out)
		}
		return nil
	})
}

const everywhere = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: each, image: "mk.test/tools:1.0.0", imagePullPolicy: Never, args: [serve], ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: each}
spec: {selector: {app: each}, ports: [{port: 80, targetPort: 8080}]}
`

// acrossNodes has a pod on every node, and each of them reach all by address and
// by the service's name.
func acrossNodes(t *testing.T, m []*machine) {
	var both sync.WaitGroup // two at once, on two nodes
	for _, x := range m[:2] {
		both.Go(func() {
			if _, err := x.try(3*time.Minute, "mk", "enable", "dns"); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	for _, x := range m {
		x.run("mk", "images", "import", filepath.Join(x.Out, "testimages/tools.tar"))
	}
	m[0].apply(everywhere)
	m[0].kubectl("rollout", "status", "daemonset/each", "--timeout=240s")
	ips := strings.Fields(m[0].kubectl("get", "pods", "-l", "app=each", "-o", "jsonpath={.items[*].status.podIP}"))
	if len(ips) != len(m) {
		t.Fatalf("pods at %v", ips)
	}
	for _, from := range strings.Fields(m[0].kubectl("get", "pods", "-l", "app=each", "-o", "name")) {
		get := func(url string) (string, error) {
			return m[0].try(20*time.Second, "mk", "kubectl", "exec", from, "--", "/tools", "get", url)
		}
		for _, ip := range ips {
			m[0].eventually(time.Minute, func() error {
				_, err := get("http://" + ip + ":8080/")
				return err
			})
		}
		seen := map[string]bool{}
		m[0].eventually(2*time.Minute, func() error {
			out, err := get("http://each.default.svc.cluster.local/")
			if err != nil {
				return err
			}
			if seen[strings.TrimSpace(out)] = true; len(seen) < len(m) {
				return fmt.Errorf("answers to %s so far: %v", from, seen)
			}
			return nil
		})
	}
}

// usedToken presents a token a second time: the joiner is told why it is not
// good, and nothing stays on it.
func usedToken(t *testing.T, server, m *machine) {
	token := server.invite("--worker")
	before := strings.Count(server.kubectl("get", "nodes", "--no-headers"), "\n")
	m.run("mk", "leave")
	m.run("mk", "join", token, "--worker", "--name", "n5")
	m.run("mk", "leave")
	_, err := m.try(time.Minute, "mk", "join", token, "--worker", "--name", "n5")
	if err == nil || !strings.Contains(err.Error(), "used") {
		t.Errorf("a token that was used: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(m.Root, "node.json")); err == nil {
		t.Error("a join that was refused leaves a node behind")
	}
	approved(t, server, m, "n5")
	nodesReady(t, server, before)
}

// comesBack has a node leave, looks that nothing of the cluster is on it, and
// joins it again.
func comesBack(t *testing.T, server, m *machine, name string, flags ...string) {
	before := strings.Count(server.kubectl("get", "nodes", "--no-headers"), "\n")
	m.run("mk", "leave")
	nodesReady(t, server, before-1)
	for _, left := range []string{"certs", "credentials", "plugins", "node.json", "var/certs", "var/kubernetes", "var/join"} {
		if _, err := os.Lstat(filepath.Join(m.Root, left)); err == nil {
			t.Errorf("%s is left on a node that has left", left)
		}
	}
	nothingLeft(t, m)
	m.run("mk", append([]string{"join", server.invite(), "--name", name}, flags...)...)
	nodesReady(t, server, before)
}
