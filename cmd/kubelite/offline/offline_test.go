package offline

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// member makes the files of a member that has written so many keys and stopped.
func member(t *testing.T, keys int) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	c := embed.NewConfig()
	c.Name, c.Dir, c.LogLevel, c.UnsafeNoFsync = "a", filepath.Join(dir, "data"), "fatal", true
	c.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: "peer.sock"}}
	c.ListenClientUrls = []url.URL{{Scheme: "unix", Host: "client.sock"}}
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	c.InitialCluster = "a=http://127.0.0.1:2380"
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	<-e.Server.ReadyNotify()
	put(t, e, keys)
	return c.Dir
}

func put(t *testing.T, e *embed.Etcd, keys int) {
	t.Helper()
	client := v3client.New(e.Server)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range keys {
		if _, err := client.Put(ctx, "key-"+strconv.Itoa(i), "value"); err != nil {
			t.Fatal(err)
		}
	}
}

// appendUnheard writes a key into the log of a member.
func appendUnheard(t *testing.T, data, key string) {
	t.Helper()
	r := etcdserverpb.InternalRaftRequest{
		Header: &etcdserverpb.RequestHeader{ID: 1 << 60},
		Put:    &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte("acknowledged elsewhere")},
	}
	body, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	appendEntry(t, data, raftpb.EntryNormal, body)
}

// appendEntry writes an entry into the log of which the member has not heard that the others have it.
func appendEntry(t *testing.T, data string, kind raftpb.EntryType, body []byte) {
	t.Helper()
	lg, err := quiet()
	if err != nil {
		t.Fatal(err)
	}
	w, err := wal.Open(lg, datadir.ToWALDir(data), walpb.Snapshot{})
	if err != nil {
		t.Fatal(err)
	}
	_, state, entries, err := w.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	last := entries[len(entries)-1]
	if err := w.Save(state, []raftpb.Entry{{Type: kind, Term: last.Term, Index: last.Index + 1, Data: body}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRescueMakeVerify(t *testing.T) {
	data := member(t, 20)
	appendUnheard(t, data, "unheard")
	before := snapshotOf(t, data)
	found, err := Members(data, t.TempDir())
	if err != nil || len(found) != 1 || found[0].Name != "a" || found[0].Peers[0] != "http://127.0.0.1:2380" {
		t.Fatalf("members: %+v, %v", found, err)
	}
	saved := filepath.Join(t.TempDir(), "db")
	s, err := Rescue(t.Context(), data, "a", saved, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if s.Keys != 21 {
		t.Errorf("%d keys were rescued, want 20 and the one that nobody had confirmed here", s.Keys)
	}
	if after := snapshotOf(t, data); after != before {
		t.Errorf("the member's files changed:\n%s\nbefore:\n%s", after, before)
	}
	v, err := Verify(t.Context(), saved, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if v != s {
		t.Errorf("rescued %+v, verified %+v", s, v)
	}
	dir := t.TempDir()
	to := filepath.Join(dir, "new")
	if err := Make(Restore{From: saved, To: to, Name: "b", Peer: "http://127.0.0.1:2380", Token: "another", Bump: 1_000_000}); err != nil {
		t.Fatal(err)
	}
	err = running(t.Context(), to, "b", false, func(e *embed.Etcd) error {
		client := v3client.New(e.Server)
		defer client.Close()
		resp, err := client.Get(t.Context(), "unheard")
		if err != nil {
			return err
		}
		if len(resp.Kvs) != 1 || resp.Header.Revision < s.Revision+1_000_000 {
			t.Errorf("%d keys at revision %d, want 1 after %d", len(resp.Kvs), resp.Header.Revision, s.Revision+1_000_000)
		}
		watch := <-client.Watch(t.Context(), "key-1", clientv3.WithRev(s.Revision))
		if watch.CompactRevision == 0 {
			t.Errorf("who watches from before is not told to read anew: %+v", watch)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	data := member(t, 1)
	saved := filepath.Join(t.TempDir(), "db")
	if _, err := Rescue(t.Context(), data, "a", saved, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, whole...)
	flipped[len(flipped)/2] ^= 1
	for name, bytes := range map[string][]byte{
		"a flipped bit": flipped, "cut": whole[:len(whole)-4096], "without its checksum": whole[:len(whole)-32], "nothing": nil, "noise": []byte("no datastore"),
	} {
		file := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(file, bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(t.Context(), file, t.TempDir()); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// snapshotOf names every file below a folder with its size.
func snapshotOf(t *testing.T, dir string) string {
	t.Helper()
	var out string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			out += path + " " + strconv.FormatInt(info.Size(), 10) + " " + info.ModTime().String() + "\n"
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
