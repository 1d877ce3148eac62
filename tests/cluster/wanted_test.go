//go:build cluster

package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// wanted has one argument set on every node: one that was stopped has it when
// it is back, one that is made otherwise is shown, and healed by the next wish.
func wanted(t *testing.T, m []*machine) {
	server, off := m[0], m[len(m)-1]
	capacity := func(want string) {
		server.eventually(time.Minute, func() error {
			out, err := server.try(20*time.Second, "mk", "kubectl", "get", "nodes", "-o", "jsonpath={.items[*].status.capacity.pods}")
			if err == nil && strings.TrimSpace(out) != strings.TrimSpace(strings.Repeat(want+" ", len(m))) {
				return errText("pods of nodes: " + out)
			}
			return err
		})
	}
	off.run("mk", "stop")
	out, err := server.try(3*time.Minute, "mk", "args", "set", "kubelet", "max-pods=111", "--all-nodes", "--timeout", "60s")
	if err == nil || !strings.Contains(err.Error(), "exit status 5") || strings.Count(out, "  done\n") != len(m)-1 || !strings.Contains(out, "n5  not done") {
		t.Errorf("with a node that is stopped: %v\n%s", err, out)
	}
	farLogs(t, m)
	farImages(t, m)
	off.run("mk", "start")
	capacity("111")
	if _, err := m[1].try(time.Minute, "mk", "args", "set", "kubelet", "max-pods=50"); err == nil || !strings.Contains(err.Error(), "the cluster wants") {
		t.Errorf("what would not last: %v", err)
	}
	m[1].run("mk", "args", "set", "kubelet", "max-pods=50", "--local")
	for _, words := range [][]string{{"node"}, {"status"}} {
		on := server
		if words[0] == "status" {
			on = m[1]
		}
		on.eventually(time.Minute, func() error { // the node says so when its API server is back
			if out := on.run("mk", words...); !strings.Contains(out, "kubelet --max-pods is 50, the cluster wants 111 (--local)") {
				return errText("mk " + words[0] + " shows no drift:\n" + out)
			}
			return nil
		})
	}
	began := time.Now()
	server.run("mk", "args", "set", "kubelet", "max-pods=112", "--all-nodes")
	t.Logf("one argument on %d nodes, whose services restart: %s", len(m), time.Since(began).Round(time.Millisecond))
	capacity("112")
	began = time.Now()
	if out := server.run("mk", "args", "list", "kubelet", "--all-nodes"); strings.Count(out, "--max-pods=112") != len(m) {
		t.Errorf("the argument of every node:\n%s", out)
	}
	t.Logf("the arguments of %d nodes: %s", len(m), time.Since(began).Round(time.Millisecond))
	// What a node does not work with is taken back there, and said.
	out, err = server.try(4*time.Minute, "mk", "args", "set", "kube-scheduler", "config=/no-such-file", "--node", "n2", "--timeout", "3m")
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(out, "n2  not done: ") || !strings.Contains(out, "open /no-such-file") {
		t.Errorf("a wish that a node does not work with: %v\n%s", err, out)
	}
	if out, err := m[1].try(time.Minute, "mk", "args", "get", "kube-scheduler", "config"); err == nil {
		t.Errorf("it stands on n2: %s", out)
	}
	if out := m[1].run("mk", "status", "--wait-ready", "--timeout", "1m"); !strings.Contains(out, "mk is running: n2") {
		t.Errorf("n2, with what it had before:\n%s", out)
	}
	server.run("mk", "args", "unset", "kube-scheduler", "config", "--node", "n2")
	elsewhere(t, m)
}

// elsewhere changes one other node, then all, and looks at all: by services,
// arguments, certificates, plugins and changes.
func elsewhere(t *testing.T, m []*machine) {
	t.Helper()
	server := m[0]
	state := func() (out []string) { // of flanneld and of a certificate of each node
		for _, x := range m {
			out = append(out, fmt.Sprint(x.pid("flanneld"), " ", x.serial("kubelet")))
		}
		return out
	}
	same := func(before []string) (out []bool) {
		for i, now := range state() {
			out = append(out, now == before[i])
		}
		return out
	}
	on := make([]bool, len(m)) // nothing is the same
	but := slices.Repeat([]bool{true}, len(m))
	but[1] = false
	for _, c := range []struct {
		words []string
		same  []bool
	}{
		{[]string{"restart", "flanneld", "--node", "n2"}, but},
		{[]string{"restart", "flanneld", "--all-nodes"}, on},
		{[]string{"certs", "renew", "kubelet", "--node", "n2"}, but},
		{[]string{"certs", "renew", "kubelet", "--all-nodes"}, on},
		{[]string{"args", "set", "flanneld", "iptables-resync=11", "--node", "n2"}, but},
	} {
		before := state()
		server.run("mk", c.words...)
		if got := same(before); !slices.Equal(got, c.same) {
			t.Errorf("mk %s: as before are %v, want %v", strings.Join(c.words, " "), got, c.same)
		}
	}
	if out := m[1].run("mk", "args", "get", "flanneld", "iptables-resync"); strings.TrimSpace(out) != "11" {
		t.Errorf("the argument of n2 is %q", out)
	}
	had, err := m[0].try(time.Minute, "mk", "args", "get", "flanneld", "iptables-resync")
	server.run("mk", "args", "unset", "flanneld", "iptables-resync", "--node", "n2")
	if now, nowErr := m[1].try(time.Minute, "mk", "args", "get", "flanneld", "iptables-resync"); now != had || (nowErr == nil) != (err == nil) {
		t.Errorf("the argument of n2 is %q, %v; of others %q, %v", now, nowErr, had, err)
	}
	for _, words := range [][]string{{"certs", "check"}, {"certs", "list"}, {"plugin", "list"}, {"changes", "list"}} {
		out := server.run("mk", append(words, "--all-nodes")...)
		for i := range m {
			name := fmt.Sprintf("n%d ", i+1)
			if shown := strings.Contains("\n"+out, "\n"+name); shown != (words[1] != "check" && (i < 3 || words[0] != "plugin")) {
				t.Errorf("mk %s --all-nodes, %s: %v\n%s", strings.Join(words, " "), name, shown, out)
			}
		}
	}
}

// farLogs reads the logs of every node, of which the last is off.
func farLogs(t *testing.T, m []*machine) {
	server, worker, last := m[0], m[len(m)-2], fmt.Sprintf("n%d", len(m)-1)
	out, err := server.try(time.Minute, "mk", "logs", "--all-nodes", "--since", "1h", "-o", "json")
	if err == nil || !strings.Contains(err.Error(), "exit status 5") || !strings.Contains(err.Error(), fmt.Sprintf("n%d: ", len(m))) {
		t.Errorf("logs of every node, one of which is off: %v", err)
	}
	var lines []struct {
		Node, Service string
		Time          time.Time
	}
	if err := json.Unmarshal([]byte(out), &lines); err != nil {
		t.Fatal(err)
	}
	of, before := map[string]int{}, time.Time{}
	for _, l := range lines {
		of[l.Node]++
		of[l.Node+" "+l.Service]++
		before = l.Time
	}
	for i := range len(m) - 1 {
		if of[fmt.Sprintf("n%d", i+1)] == 0 {
			t.Errorf("no line of n%d", i+1)
		}
	}
	if of["n1 etcd"] == 0 || of[last+" etcd"] != 0 || of[last+" apiserver-proxy"] == 0 || before.IsZero() {
		t.Errorf("lines of services: %v", of)
	}
	for why, words := range map[string][]string{
		"there is no service \"etcd\"":        {"logs", "etcd", "--node", last},
		"there is no service \"../../etc/x\"": {"logs", "../../etc/x", "--all-nodes"},
		"there is no node":                    {"logs", "--node", "n99"},
	} {
		if _, err := server.try(time.Minute, "mk", words...); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("mk %v: %v", words, err)
		}
	}
	if _, err := worker.try(time.Minute, "mk", "logs", "--node", "n1"); err == nil || !strings.Contains(err.Error(), "a worker cannot") {
		t.Errorf("a worker reads the logs of others: %v", err)
	}
	followed(t, server, worker, last)
}

// followed reads a line of a log of another node when it is written.
func followed(t *testing.T, server, worker *machine, name string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	follow := server.Command(ctx, "mk", "logs", "kubelite", "-f", "--node", name)
	said, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	if !lines.Scan() {
		t.Fatalf("mk logs -f --node %s says nothing: %v", name, lines.Err())
	}
	written := make(chan struct{})
	go func() { // again and again: the last lines come before it is watched
		defer close(written)
		for ctx.Err() == nil {
			log, err := os.OpenFile(filepath.Join(worker.Root, "var/log/kubelite.log"), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = log.WriteString("a line of the test\n")
				err = errors.Join(err, log.Close())
			}
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	found := false
	for !found && lines.Scan() {
		found = lines.Text() == name+" | a line of the test"
	}
	stop()
	<-written
	_ = follow.Wait() // it was ended
	if !found {
		t.Errorf("mk logs -f --node %s shows no line that is written: %v", name, lines.Err())
	}
}

// farImages gives images to every node, of which the last is off.
func farImages(t *testing.T, m []*machine) {
	server := m[0]
	const image = "mk.test/again:1"
	archive := filepath.Join(passable(t), "again.tar")
	server.run("mk", "ctr", "images", "tag", "mk.test/tools:1.0.0", image)
	server.run("mk", "ctr", "images", "export", "--local", archive, image) // what the daemon exports may be cut off at its end
	server.run("mk", "ctr", "images", "rm", image)
	out, err := server.try(3*time.Minute, "mk", "images", "import", archive, "--all-nodes")
	if err == nil || !strings.Contains(err.Error(), "exit status 5") || strings.Count(out, "  done\n") != len(m)-1 || !strings.Contains(out, fmt.Sprintf("n%d  not done", len(m))) {
		t.Errorf("images for every node, one of which is off: %v\n%s", err, out)
	}
	for _, x := range m[:len(m)-1] {
		if out := x.run("mk", "images", "list"); !strings.Contains(out, image+"\n") {
			t.Errorf("%s has no %s:\n%s", x.Machine.Name, image, out)
		}
	}
	if out, err := server.try(time.Minute, "mk", "images", "import", filepath.Join(server.Root, "node.json"), "--node", "n2"); err == nil || !strings.Contains(out, "n2  not done") {
		t.Errorf("what is no archive of images: %v\n%s", err, out)
	}
}

// errText is an error that says something.
type errText string

// Error is what it says.
func (e errText) Error() string { return string(e) }
