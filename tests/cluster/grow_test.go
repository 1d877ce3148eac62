//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// sixth gives machines an address of IPv6 each, in one network.
func sixth(machines ...*machine) {
	for i, m := range machines {
		m.run("ip", "addr", "add", fmt.Sprintf("fd78::%d/64", i+1), "dev", "eth0", "nodad")
	}
}

// inTheWay is what a preflight finds before anything is written: a closed port,
// a small link, a disk that is full, a token that has ended or was cut off.
func inTheWay(t *testing.T, server, m *machine, words []string) {
	t.Helper()
	refuses := func(why string, words ...string) string {
		t.Helper()
		_, err := m.try(time.Minute, "mk", words...)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("mk %s: %v, want %q", strings.Join(words[:1], " "), err, why)
			return ""
		}
		return err.Error()
	}
	drop := []string{"INPUT", "-i", "eth0", "-p", "tcp", "--dport", "2380", "-j", "DROP"}
	large := []string{"INPUT", "-i", "eth0", "-p", "udp", "-m", "length", "--length", "1400:", "-j", "DROP"}
	m.run("iptables", append([]string{"-A"}, drop...)...)
	m.run("iptables", append([]string{"-A"}, large...)...)
	said := refuses("n1 does not reach this node on port 2380", words...)
	if !strings.Contains(said, "a datagram that fills the link does not arrive") || !strings.Contains(said, "no answer in 3 s") {
		t.Errorf("a closed port and a small link:\n%s", said)
	}
	m.run("iptables", append([]string{"-D"}, drop...)...)
	m.run("iptables", append([]string{"-D"}, large...)...)

	small := filepath.Join(passable(t), "disk")
	m.host("mkdir", small)
	m.run("mount", "-t", "tmpfs", "-o", "size=64m", "mk-test", small)
	defer m.run("umount", small)
	refuses("a node needs 2048", append([]string{"--root", filepath.Join(small, "mk")}, words...)...)
	if left := m.run("ls", "-A", small); left != "" {
		t.Errorf("a join onto a full disk leaves %s", left)
	}

	short := server.invite("--token-ttl", "1")
	m.eventually(20*time.Second, func() error {
		if _, err := m.try(time.Minute, "mk", "--dry-run", "join", short); err == nil || !strings.Contains(err.Error(), "the token ended") {
			return fmt.Errorf("a token that has ended: %w", err)
		}
		return nil
	})
	revoked := server.invite()
	server.run("mk", "token", "revoke", server.goodTokens()[0].ID)
	refuses("was revoked", "join", revoked)
	refuses("was the string cut off?", "join", words[1][:len(words[1])-10])
}

// diskFills has the joiner's disk fill up in the middle of a join: that is what
// it says. Before its node votes nothing is half done on either side; then it
// joins with the same words when there is room, though meanwhile nobody else
// could write.
func diskFills(t *testing.T, server, m *machine, words []string) {
	t.Helper()
	small := filepath.Join(passable(t), "disk")
	m.host("mkdir", small)
	m.run("mount", "-t", "tmpfs", "-o", "size=2200m", "mk-test", small)
	defer m.run("umount", small)
	known := func() string {
		return fmt.Sprint(strings.Fields(server.kubectl("get", "nodes", "-o", "name")), len(heardMembers(server)))
	}
	before := known()
	early := filepath.Join(small, "early")
	own := filepath.Join(early, "args/kubelet")
	m.run("sh", "-c", `mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1"`, "sh", own, byHand)
	m.fillsUp(small, early, func(ctx context.Context) error {
		return m.Command(ctx, "sh", "-c", `until grep -qs '"name": "take over the cluster.s keys"' "$1"/var/journal/*/operation.json; do sleep 0.01; done`, "sh", early).Run()
	}, words...)
	m.run("mount", "-o", "remount,size=2200m", small)
	if now := known(); now != before {
		t.Errorf("nodes, and members of the datastore, were %s, and are %s", before, now)
	}
	if now := m.run("cat", own); now != byHand {
		t.Errorf("the args file from before the join is %q", now)
	}
	nothingLeft(t, m)

	store := etcdOf(t, server)
	for _, name := range []string{"learns", "votes"} {
		root := filepath.Join(small, name)
		words := []string{"join", server.invite(), "--name", "n2"}
		m.fillsUp(small, root, func(ctx context.Context) error {
			for often := time.NewTicker(5 * time.Millisecond); ; <-often.C {
				l, err := store.MemberList(ctx)
				if err != nil || len(l.Members) == 2 && (name == "learns" || !slices.ContainsFunc(l.Members, learner)) {
					return err
				}
			}
		}, words...)
		if name == "votes" { // and now its datastore ends, too
			large := filepath.Join(t.TempDir(), "large")
			if err := os.WriteFile(large, bytes.Repeat([]byte("0123456789abcdef"), 40000), 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				name := fmt.Sprintf("large-%d", i)
				if _, err := server.try(20*time.Second, "mk", "kubectl", "--request-timeout=3s", "create", "configmap", name, "--from-file="+large); err != nil {
					break
				}
			}
			a := m.answer(append([]string{"--root", root}, words...)...)
			if a.code == 0 || !strings.Contains(a.errs, "the disk is full") {
				t.Errorf("a join that goes on with a full disk: %s", a)
			}
		}
		m.run("mount", "-o", "remount,size=2200m", small)
		t.Log(m.run("mk", append([]string{"--root", root}, words...)...))
		joinedNow(t, server, "n2", 2)
		m.run("mk", "--root", root, "leave")
		server.kubectl("delete", "configmaps", "--all")
		if now := known(); now != before {
			t.Errorf("nodes, and members of the datastore, were %s, and are %s", before, now)
		}
		nothingLeft(t, m)
	}
}

func learner(m *etcdserverpb.Member) bool { return m.IsLearner }

// fillsUp has a disk be full when a join of a root folder on it has come to
// some point, and wants it to say so.
func (m *machine) fillsUp(disk, root string, reached func(context.Context) error, words ...string) {
	m.t.Helper()
	ctx, ended := context.WithCancel(m.t.Context())
	full := make(chan error, 1)
	go func() {
		err := reached(ctx)
		if err == nil {
			_, err = m.try(2*time.Minute, "sh", "-c", `until mount -o "remount,size=$(df --output=used -B1 "$1" | tail -1 | tr -d ' ')" "$1" 2> /dev/null; do :; done`, "sh", disk)
		}
		full <- err
	}()
	a := m.answer(append([]string{"--root", root}, words...)...)
	ended()
	m.t.Logf("a disk that fills up: %s", a)
	if err := <-full; err != nil {
		m.t.Errorf("the join ended before the disk was full: %v", err)
	}
	says := strings.Contains(a.errs, "the disk ") && strings.Contains(a.errs, " is full") ||
		strings.Contains(a.errs, "no space left on device") // a plugin's own words
	if a.code == 0 || !says {
		m.t.Error("it does not say that the disk is full")
	}
}

// firewalled has every node, the last of which is a worker, let through what mk
// says it needs, and nothing else to its ports, until open is called.
func firewalled(t *testing.T, m []*machine) (open func()) {
	t.Helper()
	for _, x := range m {
		x.run("sh", "-c", `"$1" node ports -o nft | nft -f -`, "sh", filepath.Join(x.Out, "bin/mk"))
	}
	datastore := m[0].Address + ":2380"
	for _, x := range []*machine{m[1], m[len(m)-1]} {
		conn, err := x.dial(t.Context(), "tcp", datastore)
		if allowed := x == m[1]; (err == nil) != allowed {
			t.Errorf("%s reaches the datastore: %v, want %v", x.Name, err, allowed)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	return func() {
		for _, x := range m {
			x.run("nft", "delete", "table", "inet", "mk")
		}
	}
}

// listedToken is a token of mk token list.
type listedToken struct {
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Created time.Time `json:"created"`
}

// goodTokens are those that are good, the newest first.
func (m *machine) goodTokens() []listedToken {
	m.t.Helper()
	var all []listedToken
	if err := json.Unmarshal([]byte(m.run("mk", "token", "list", "-o", "json")), &all); err != nil {
		m.t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(x listedToken) bool { return x.State != "good" })
	slices.SortFunc(all, func(a, b listedToken) int { return b.Created.Compare(a.Created) })
	if len(all) == 0 {
		m.t.Fatal("no token is good")
	}
	return all
}

// together joins workers at once, one through IPv6, while their invitation is
// watched.
func together(t *testing.T, server *machine, flags []string, joiners map[string]*machine) {
	t.Helper()
	ctx := t.Context()
	watch := server.Command(ctx, "mk", "add-node", "-o", "short", "--worker", "--uses", "2", "--watch")
	out, err := os.Create(filepath.Join(t.TempDir(), "watch"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // another one reads it
	watch.Stdout, watch.Stderr = out, out
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	said := func() string {
		data, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var lines []string
	server.eventually(30*time.Second, func() error {
		if lines = strings.Split(said(), "\n"); len(lines) < 3 {
			return fmt.Errorf("mk add-node --watch says %q", lines)
		}
		return nil
	})
	var group sync.WaitGroup
	for name, m := range joiners {
		line := lines[0]
		if name == "n4" {
			for _, l := range lines {
				if strings.Contains(l, "[fd78::1]") {
					line = l
				}
			}
		}
		words := strings.Fields(line)[1:] // as it is printed, with --worker
		group.Go(func() {
			out, err := m.try(5*time.Minute, "mk", append(append(words, "--name", name), flags...)...)
			if err != nil {
				t.Error(err)
			}
			t.Log(out)
		})
	}
	group.Wait()
	if err := watch.Wait(); err != nil {
		t.Error(err)
	}
	for name := range joiners {
		if !strings.Contains(said(), name+" (") || strings.Count(said(), "has joined") != len(joiners) {
			t.Errorf("mk add-node --watch:\n%s", said())
		}
	}
}

// approved has a person decide about a worker: first no, then yes.
func approved(t *testing.T, server, m *machine, name string) {
	server.run("mk", "plugin", "use", "clustering/approve")
	s := server.invite("--worker")
	for _, verdict := range []string{"deny", "approve"} {
		answer := make(chan error, 1)
		go func() {
			_, err := m.try(5*time.Minute, "mk", "join", s, "--worker", "--name", name)
			answer <- err
		}()
		server.eventually(time.Minute, func() error {
			out, err := server.try(20*time.Second, "mk", "node", "list", "--pending", "-o", "json")
			if err == nil && !strings.Contains(out, `"name": "`+name+`"`) {
				err = fmt.Errorf("nobody waits: %s", out)
			}
			return err
		})
		words := []string{"node", verdict, name}
		if verdict == "deny" {
			words = []string{"node", "deny", "--reason", "not on a Friday", name}
		}
		server.run("mk", words...)
		err := <-answer
		if verdict == "approve" && err != nil {
			t.Fatal(err)
		}
		if verdict == "deny" && (err == nil || !strings.Contains(err.Error(), "not on a Friday") || m.Started()) {
			t.Errorf("a join that was denied: %v", err)
		}
	}
	server.run("mk", "plugin", "use", "clustering/etcd")
}

// endedWorker lets all certificates of a worker end while it is off. With a
// token it comes back as what it was, its pods, too.
func endedWorker(t *testing.T, server, m *machine, name string) {
	pods := func() string {
		return server.kubectl("get", "pods", "-l", "app=each", "--field-selector", "spec.nodeName="+name, "-o", "jsonpath={.items[*].metadata.uid}")
	}
	m.run("mk", "images", "import", filepath.Join(m.Out, "testimages/tools.tar"))
	// Not the DaemonSet's status: for an instant after the node's joining it is
	// that of the other four.
	server.eventually(2*time.Minute, func() error {
		out, err := server.try(20*time.Second, "mk", "kubectl", "get", "pods", "-l", "app=each", "--field-selector", "spec.nodeName="+name)
		if err == nil && !strings.Contains(out, "1/1") {
			err = fmt.Errorf("the pod of %s does not run: %s", name, out)
		}
		return err
	})
	before := pods()
	m.run("mk", "stop")
	for _, p := range []string{"kubelet", "proxy", "flanneld", "node-agent"} {
		ended(t, filepath.Join(m.Root, "certs", p))
	}
	if _, err := m.try(time.Minute, "mk", "join", server.invite(), "--renew", "--name", "n9"); err == nil {
		t.Error("a renewal gives a node another name")
	}
	t.Log(m.run("mk", "join", server.invite("--worker"), "--renew"))
	server.kubectl("rollout", "status", "daemonset/each", "--timeout=240s")
	if after := pods(); before == "" || after != before {
		t.Errorf("pods of %s: before %q, after %q", name, before, after)
	}
	m.run("mk", "certs", "check")
}

// ended puts a certificate in a pair's place that has ended, of the same key.
func ended(t *testing.T, pair string) {
	t.Helper()
	p, err := tls.LoadX509KeyPair(pair+".crt", pair+".key")
	if err != nil {
		t.Fatal(err)
	}
	key, ok := p.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("%s.key is a %T", pair, p.PrivateKey)
	}
	old, err := x509.ParseCertificate(p.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	old.NotBefore, old.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, old, old, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pair+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil { //nolint:gosec // a certificate
		t.Fatal(err)
	}
}

// withoutVote joins a control-plane node that holds no part of the datastore:
// its API server writes to the others' all the same.
func withoutVote(t *testing.T, server, m *machine, name string) {
	before := strings.Count(server.kubectl("get", "nodes", "--no-headers"), "\n")
	comesBack(t, server, m, name, "--no-vote")
	caughtUp(server, name)
	if out := server.run("mk", "datastore", "members"); strings.Contains(out, m.Address+":") || !strings.Contains(out, server.Address+":") {
		t.Errorf("members of the datastore:\n%s", out)
	}
	for _, words := range [][]string{{"node", "show", name}, {"node", "list"}, {"datastore", "status"}, {"datastore", "members"}} {
		if out := m.run("mk", words...); !strings.Contains(out, "no vote") || !strings.Contains(out, name) {
			t.Errorf("mk %s does not say that %s has no vote:\n%s", strings.Join(words, " "), name, out)
		}
	}
	if _, err := m.try(time.Minute, "mk", "datastore", "recover", "--yes"); err == nil || !strings.Contains(err.Error(), "no vote") {
		t.Errorf("recover where there are no data: %v", err)
	}
	m.kubectl("create", "configmap", "from-"+name)
	server.kubectl("get", "configmap", "from-"+name)
	if _, err := os.Lstat(filepath.Join(m.Root, "var/kubernetes/backend/etcd")); err == nil {
		t.Errorf("%s has a datastore of its own", name)
	}
	restoredElsewhere(t, m, name)
	// It is needed for nothing: the others go on without it, at once.
	killEverything(t, m)
	server.kubectl("create", "configmap", "without-"+name, "--request-timeout=5s")
	if out := server.run("mk", "datastore", "status"); !strings.Contains(out, "quorum: yes") || !strings.Contains(out, "voters: 2, of which 2 answer") {
		t.Errorf("the datastore without a node that has no vote:\n%s", out)
	}
	m.run("mk", "start")
	nodesReady(t, server, before)
	m.kubectl("get", "configmap", "without-"+name)
}

// restoredElsewhere has a node without a vote save the cluster, and the cluster
// back from that on an empty machine that does not reach it: as that node, which
// votes there. On the node itself nothing is restored.
func restoredElsewhere(t *testing.T, m *machine, name string) {
	t.Helper()
	saved, identity := savedWithKeys(t, m)
	restore := []string{"datastore", "snapshot", "restore", "--yes", "--identity", identity, saved}
	if _, err := m.try(time.Minute, "mk", restore...); err == nil || !strings.Contains(err.Error(), "holds no part of the datastore") || !strings.Contains(err.Error(), "mk reset --all") {
		t.Errorf("a restore on a node without a vote: %v", err)
	}
	empty := newMachine(t, 40, true)
	defer empty.remove()
	began := time.Now()
	empty.run("mk", restore...)
	t.Logf("restored what a node without a vote saved in %s", round(time.Since(began)))
	// The workers that it knows are elsewhere.
	empty.kubectl("wait", "--for=condition=Ready", "node/"+name, "--timeout=60s")
	empty.kubectl("get", "configmap", "from-"+name)
	if all := datastoreMembers(empty); len(all) != 1 || all[0].Name != name || all[0].Role != "voter" || !strings.Contains(all[0].PeerAddress, empty.Address+":") {
		t.Errorf("members of what was restored: %+v", all)
	}
	if out := empty.run("mk", "node", "list", "-o", "json"); !strings.Contains(out, `"name": "`+name+`"`) || strings.Contains(out, `"noVote": true`) || strings.Contains(out, `"n1"`) {
		t.Errorf("nodes of what was restored:\n%s", out)
	}
}
