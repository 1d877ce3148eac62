//go:build cluster

package cluster

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recovered loses two of three control-plane nodes while somebody writes, goes
// on with the data of the one that is left, brings the others back with their
// old data, and has them leave and join. Of all that was acknowledged nothing is
// lost. At last one is removed while it is alive. The nodes that are alive are all but the first and third.
func recovered(t *testing.T, m []*machine, nodes int) {
	lost, left := []*machine{m[0], m[2]}, m[1]
	if _, err := left.try(time.Minute, "mk", "datastore", "recover", "--yes"); err == nil || !strings.Contains(err.Error(), "may be alive") {
		t.Errorf("recover with a majority alive: %v", err)
	}
	acknowledged := writeUntil(t, left, func() {
		for _, x := range lost {
			killEverything(t, x)
		}
	})
	if _, err := left.try(time.Minute, "mk", "datastore", "status"); err == nil || !strings.Contains(err.Error(), "mk datastore recover") {
		t.Errorf("status without a quorum: %v", err)
	}
	cmd := left.Command(t.Context(), "mk", "datastore", "recover")
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("recover without agreement: exit %d\n%s", cmd.ProcessState.ExitCode(), out)
	}
	// Nothing of it works, but something answers where a lost member was.
	l := lost[0].listen(lost[0].Address + ":2380")
	if _, err := left.try(time.Minute, "mk", "datastore", "recover", "--yes"); err == nil || !strings.Contains(err.Error(), "may be alive") {
		t.Errorf("recover while a lost member's port answers: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	began := time.Now()
	t.Log(left.run("mk", "datastore", "recover", "--yes"))
	t.Logf("recovered in %s", time.Since(began).Round(time.Second))
	allThere(t, left, acknowledged)
	nodesReady(t, left, nodes-len(lost))
	if kept, _ := filepath.Glob(filepath.Join(left.Root, "var/kubernetes/backend/etcd.before-*/member")); len(kept) != 1 {
		t.Errorf("the old data are kept in %q", kept)
	}

	broughtBack(t, left, lost)
	allThere(t, left, acknowledged)

	for i, x := range lost {
		x.run("mk", "leave")
		x.run("mk", "join", left.invite(), "--name", fmt.Sprintf("n%d", 2*i+1))
	}
	nodesReady(t, left, nodes)
	caughtUp(left, "n1")
	allThere(t, lost[0], acknowledged)
	if out := lost[1].run("mk", "datastore", "status"); !strings.Contains(out, "voters: 3, of which 3 answer") {
		t.Errorf("three nodes again:\n%s", out)
	}
	// One that is removed while it is alive hears of it.
	left.run("mk", "remove-node", "n3", "--force")
	if why := snapshotsOf(left); why[0] != "remove-node" {
		t.Errorf("the newest snapshot was taken before %q", why[0])
	}
	lost[1].eventually(time.Minute, func() error {
		if out, _ := lost[1].try(20*time.Second, "mk", "status"); !strings.Contains(out, "it was removed") {
			return served("a node that was removed says: " + out)
		}
		return nil
	})
}

// writeUntil writes objects one after the other, lets something happen among
// that, and answers the names that were acknowledged.
func writeUntil(t *testing.T, m *machine, happen func()) []string {
	t.Helper()
	var acknowledged []string
	for i := range 400 {
		if i == 15 {
			var wg sync.WaitGroup
			wg.Go(happen)
			defer wg.Wait()
		}
		name := fmt.Sprintf("written-%d", i)
		_, err := m.try(20*time.Second, "mk", "kubectl", "create", "configmap", name, "--request-timeout=5s")
		if err != nil {
			if i < 15 {
				t.Fatal(err)
			}
			return acknowledged
		}
		acknowledged = append(acknowledged, name)
	}
	t.Error("everything is written although a majority is gone")
	return acknowledged
}

func allThere(t *testing.T, m *machine, want []string) {
	t.Helper()
	if err := missing(m, want); err != nil {
		t.Error(err)
	}
}

// missing says which objects are not there, or that it cannot be asked.
func missing(m *machine, want []string) error {
	out, err := m.try(20*time.Second, "mk", "kubectl", "get", "configmaps", "-o", "name")
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for name := range strings.FieldsSeq(out) {
		have[strings.TrimPrefix(name, "configmap/")] = true
	}
	if lost := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return have[name] }); len(lost) > 0 {
		return fmt.Errorf("acknowledged and lost: %s", strings.Join(lost, ", "))
	}
	return nil
}

// broughtBack starts nodes with the data from before a recovery: each is told,
// serves nothing, and changes nothing of what was recovered.
func broughtBack(t *testing.T, left *machine, lost []*machine) {
	t.Helper()
	var wg sync.WaitGroup
	for _, x := range lost {
		wg.Go(func() {
			_, err := x.try(4*time.Minute, "mk", "start")
			if err == nil || !strings.Contains(err.Error(), "was recovered without it") || !strings.Contains(err.Error(), "mk leave") {
				t.Errorf("mk start on a node with old data: %v", err)
			}
		})
	}
	wg.Wait()
	for _, x := range lost {
		x.eventually(30*time.Second, func() error {
			if _, err := x.try(5*time.Second, "curl", "-sk", "--max-time", "3", "https://127.0.0.1:16443/healthz"); err == nil {
				return served("a node with old data serves")
			}
			return nil
		})
		if out, err := x.try(time.Minute, "mk", "status"); err == nil || !strings.Contains(out, "it serves nothing") {
			t.Errorf("status of a node with old data: %v\n%s", err, out)
		}
	}
	if out := left.run("mk", "datastore", "status"); !strings.Contains(out, "voters: 1, of which 1 answer") {
		t.Errorf("the recovered datastore after others came back:\n%s", out)
	}
	left.kubectl("create", "configmap", "after")
}
