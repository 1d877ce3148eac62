package recovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/apiproxy"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	now, at := time.Unix(100, 0), time.Unix(50, 0).UTC()
	yes, no := true, false
	own := peer.Identity{ClusterID: "c", Recoveries: 1}
	say := func(recoveries int, known *bool) peer.Identity {
		return peer.Identity{ClusterID: "c", Recoveries: recoveries, By: "n2", At: at, Known: known}
	}
	other, outdated := say(9, nil), say(1, &no)
	other.ClusterID, outdated.Outdated = "d", true
	for name, c := range map[string]struct {
		answers map[string]peer.Identity
		want    *operation.OutdatedError
	}{
		"nobody answers":            {nil, nil},
		"all is well":               {map[string]peer.Identity{"a": say(1, &yes), "b": say(1, &yes)}, nil},
		"a recovery":                {map[string]peer.Identity{"a": say(1, &yes), "b": say(2, nil)}, &operation.OutdatedError{By: "n2", At: at}},
		"an older one":              {map[string]peer.Identity{"a": say(0, &no)}, nil},
		"another cluster":           {map[string]peer.Identity{"a": other}, nil},
		"removed":                   {map[string]peer.Identity{"a": say(1, &no), "b": say(1, nil)}, &operation.OutdatedError{Removed: true, By: "a", At: now.UTC()}},
		"one has not heard of it":   {map[string]peer.Identity{"a": say(1, &no), "b": say(1, &yes)}, nil},
		"by one that is out itself": {map[string]peer.Identity{"a": outdated}, nil},
	} {
		got := judge(own, c.answers, now)
		if (got == nil) != (c.want == nil) || (got != nil && *got != *c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// A worker goes along with a recovery, and is removed as others are.
func TestAWorkerGoesAlong(t *testing.T) {
	t.Parallel()
	n := stand(t)
	n.Record.Role, n.Record.ClusterID = node.Worker, "c"
	yes, no := true, false
	own, err := n.identity()
	if err != nil {
		t.Fatal(err)
	}
	if why, err := n.verdict(own, map[string]peer.Identity{"a": {ClusterID: "c", Recoveries: 3, By: "n2", Known: &yes}}); err != nil || why != nil {
		t.Fatalf("%v, %v", why, err)
	}
	if own, err = n.identity(); err != nil || own.Recoveries != 3 || own.By != "n2" {
		t.Errorf("%+v, %v", own, err)
	}
	if why, err := n.verdict(own, map[string]peer.Identity{"a": {ClusterID: "c", Recoveries: 4, Known: &no}}); err != nil || why == nil || !why.Removed {
		t.Errorf("a worker that was removed: %v, %v", why, err)
	}
}

func TestReplaceAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"--node-ip=10.0.0.4\n":                        "--node-ip=10.9.9.9\n",
		"--bind=https://10.0.0.4:2380,https://[::]":   "--bind=https://10.9.9.9:2380,https://[::]",
		"--a=10.0.0.44 --b=110.0.0.4 --c=10.0.0.4.in": "--a=10.0.0.44 --b=110.0.0.4 --c=10.0.0.4.in",
		"10.0.0.4":       "10.9.9.9",
		"nothing":        "nothing",
		"10.0.0.410.0.0": "10.0.0.410.0.0",
	} {
		if got := replaceAddress(text, "10.0.0.4", "10.9.9.9"); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := replaceAddress("as it is", "", "10.9.9.9"); got != "as it is" {
		t.Errorf("without an old address: %q", got)
	}
}

// stand is a node with a datastore's folder and nothing else.
func stand(t *testing.T) Node {
	t.Helper()
	root, err := node.Create(t.TempDir()+"/mk", node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	n := &operation.Node{Root: root, Record: node.NewRecord("n1", time.Unix(0, 0))}
	n.Now = func() time.Time { return time.Unix(1000, 0) }
	return Of(n)
}

// The exchange of data may be interrupted between any two of its renames.
func TestExchangeGoesOn(t *testing.T) {
	t.Parallel()
	const fresh, aside = data + ".new", data + ".before-7"
	for name, made := range map[string]map[string]string{
		"nothing done":       {data: "old", fresh: "new"},
		"the old data aside": {aside: "old", fresh: "new"},
		"all of it":          {aside: "old", data: "new"},
	} {
		n := stand(t)
		for dir, content := range made {
			if err := n.Root.MkdirAll(dir, privateFolder()); err != nil {
				t.Fatal(err)
			}
			if err := n.Root.WriteFile(dir+"/db", []byte(content), private()); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := n.exchange(fresh, aside); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for dir, want := range map[string]string{data: "new", aside: "old"} {
			if got, err := os.ReadFile(n.Root.Path(dir, "db")); err != nil || string(got) != want {
				t.Errorf("%s: %s holds %q, want %q (%v)", name, dir, got, want, err)
			}
		}
		if _, err := n.Root.Lstat(fresh); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %s is left", name, fresh)
		}
	}
}

func TestIdentityCountsAnOperationOnce(t *testing.T) {
	t.Parallel()
	n := stand(t)
	for _, operation := range []string{"a", "a", "b"} {
		if err := n.count(operation); err != nil {
			t.Fatal(err)
		}
	}
	i, err := n.identity()
	if err != nil || i.Recoveries != 2 || i.By != "n1" {
		t.Errorf("%+v, %v", i, err)
	}
	if err := n.Outdated(); err != nil {
		t.Errorf("a node that heard nothing is outdated: %v", err)
	}
	if err := n.SetOutdated(&operation.OutdatedError{By: "n2", At: time.Unix(5, 0).UTC()}); err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*operation.OutdatedError](n.Outdated()); !ok || e.By != "n2" {
		t.Errorf("%v", n.Outdated())
	}
}

func TestSweepLeavesWhatIsYoung(t *testing.T) {
	t.Parallel()
	n := stand(t)
	n.Now = time.Now
	if err := n.Root.MkdirAll(folder+"/.work-a", privateFolder()); err != nil {
		t.Fatal(err)
	}
	if err := n.sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Root.Lstat(folder + "/.work-a"); err != nil {
		t.Errorf("work under way is removed: %v", err)
	}
	n.Now = func() time.Time { return time.Now().Add(3 * workLimit) }
	if err := n.sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Root.Lstat(folder + "/.work-a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("work that was killed stays: %v", err)
	}
}

// Where there are no data there is nothing to recover from, and no datastore to
// restore into: it says so before it looks for anything, and names the way out.
func TestANodeWithoutAVoteRecoversNothing(t *testing.T) {
	t.Parallel()
	n := stand(t)
	n.Journal = &operation.Journal{Root: n.Root}
	n.Record.ClusterID, n.Record.NoVote = "c", true
	_, considered := n.Consider(t.Context())
	for name, err := range map[string]error{
		"consider": considered, "recover": n.Recover(t.Context()), "restore": n.Restore(t.Context(), RestoreOptions{File: "x"}),
	} {
		e, ok := errors.AsType[*plugin.Error](err)
		if !ok || e.Reason != plugin.NotPossible || !strings.Contains(e.Message, "no vote") || !strings.Contains(e.Next, "mk datastore snapshot restore FILE") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, err := operation.Records(n.Root); err != nil || len(all) != 0 {
		t.Errorf("%d operations were begun, %v", len(all), err)
	}
}

// A snapshot of a node without a vote makes one that has the only member.
func TestASnapshotOfANodeWithoutAVote(t *testing.T) {
	t.Parallel()
	for noVote, want := range map[bool]string{true: "--etcd-servers=https://127.0.0.1:12379\n", false: "--etcd-servers=https://10.0.0.4:12379,https://10.0.0.5:12379\n"} {
		n := stand(t)
		err := n.Root.MkdirAll(unpacked+"/args", privateFolder())
		if err == nil {
			err = n.Root.WriteFile(unpacked+"/args/kube-apiserver", []byte("--etcd-servers=https://10.0.0.4:12379,https://10.0.0.5:12379\n"), private())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := n.copyArgs("args/kube-apiserver", "", node.Record{NoVote: noVote, Address: n.Record.Address}); err != nil {
			t.Fatal(err)
		}
		if got, err := n.Root.ReadFile("args/kube-apiserver"); err != nil || string(got) != want {
			t.Errorf("no vote %v: %q, %v", noVote, got, err)
		}
	}
}

// A node whose datastore does not answer asks those that it saw last, and does
// not forget them.
func TestTheOthersOfASilentDatastore(t *testing.T) {
	t.Parallel()
	n := stand(t)
	n.Record.Role, n.Record.ClusterID, n.Record.Address = node.ControlPlane, "c", "10.0.0.1"
	seen := []string{"10.0.0.2:25000", "10.0.0.3:25000"}
	if err := n.savePeers(seen); err != nil {
		t.Fatal(err)
	}
	again, alone, err := n.Look(t.Context())
	if err != nil || alone || again != lookAgain {
		t.Errorf("look again in %s, alone %t: %v", again, alone, err)
	}
	if got, err := n.Peers(); err != nil || !slices.Equal(got, seen) {
		t.Errorf("peers %q, %v", got, err)
	}
	if err := n.Root.WriteFile(operation.PeersFile, []byte("{"), n.Root.Public()); err != nil {
		t.Fatal(err)
	}
	if err := n.LookFirst(t.Context()); err == nil || !strings.Contains(err.Error(), operation.PeersFile) {
		t.Errorf("a damaged file: %v", err)
	}
}

// Each node is asked where its own agent listens: as the cluster's records say,
// else as it was seen last. What is wrong with either keeps nobody from asking.
func TestWhereTheOthersListen(t *testing.T) {
	t.Parallel()
	guessed := []string{"10.0.0.2:25000", "10.0.0.3:25000", "[fd00::4]:25000"}
	seen := []string{"10.0.0.2:25001", "10.0.0.9:25009", "[fd00::4]:25004"}
	records := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": [
			{"metadata": {"name": "node.b"}, "data": {"record": "{\"name\": \"b\", \"address\": \"10.0.0.2\", \"agentPort\": 25002}"}},
			{"metadata": {"name": "node.c"}, "data": {"record": "{\"name\": \"c\", \"address\": \"10.0.0.3\", \"agentPort\": 25003}"}}]}`)
	}
	for name, c := range map[string]struct {
		api  http.HandlerFunc
		seen []string
		want []string
	}{
		"the records say":     {records, seen, []string{"10.0.0.2:25002", "10.0.0.3:25003", "[fd00::4]:25004"}},
		"refused":             {http.NotFound, seen, []string{"10.0.0.2:25001", "10.0.0.3:25000", "[fd00::4]:25004"}},
		"no answer":           {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, seen, []string{"10.0.0.2:25001", "10.0.0.3:25000", "[fd00::4]:25004"}},
		"nobody was seen yet": {http.NotFound, nil, guessed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := httptest.NewServer(c.api)
			t.Cleanup(api.Close)
			n := stand(t)
			config := fmt.Sprintf(`{"clusters": [{"name": "c", "cluster": {"server": %q}}], "contexts": [{"name": "c", "context": {"cluster": "c"}}], "current-context": "c"}`, api.URL)
			n.Record.Role = node.Worker // it needs no datastore to know of others
			joined, err := json.Marshal(guessed)
			err = errors.Join(err, os.WriteFile(n.Root.Credentials(n.Kubeconfig()), []byte(config), 0o600), n.savePeers(c.seen),
				n.Root.MkdirAll("var/lib", n.Root.Passage()), n.Root.WriteFile(operation.AgentsFile, joined, n.Root.Public()),
				n.Root.WriteFile(apiproxy.ListFile, nil, n.Root.Public()))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if got := n.agentsAt(t.Context(), guessed); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
			if got, whole, err := n.others(t.Context(), identity{}); err != nil || whole || !slices.Equal(got, c.want) {
				t.Errorf("a worker asks %q, want %q: %v", got, c.want, err)
			}
			if took := time.Since(began); took > 3*askLimit {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A restore that finds a node where there was none when it was told, as it had
// to wait for the lock, changes nothing of it.
func TestARestoreLooksAgain(t *testing.T) {
	t.Parallel()
	root := stand(t).Root
	mk := filepath.Join(t.TempDir(), "bin/mk")
	if err := errors.Join(os.Mkdir(filepath.Dir(mk), 0o700), os.WriteFile(mk, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	late, err := operation.OpenNode(operation.Options{Root: root.Dir(), Executable: mk, Now: time.Now, Env: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = late.Close() })
	made := node.NewRecord("n1", time.Now())
	made.ClusterID = node.NewID()
	if err := root.SaveRecord(made); err != nil {
		t.Fatal(err)
	}
	err = Of(late).Restore(t.Context(), RestoreOptions{File: "x"})
	if !errors.Is(err, plugin.NotPossible) || !strings.Contains(err.Error(), "meanwhile") {
		t.Errorf("%v", err)
	}
	if now, err := root.LoadRecord(); err != nil || now.ID != made.ID {
		t.Errorf("the node is %+v, %v", now, err)
	}
	if open, err := late.Journal.Open(); err != nil || open != nil {
		t.Errorf("what was refused stands open: %+v, %v", open, err)
	}
}
