package offline

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/raft/v3/raftpb"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// peers makes the files of members that vote together, have written so many keys and stopped; and tells the second's ID.
func peers(t *testing.T, keys int) (first, second string, id uint64) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	configs := make([]*embed.Config, 2)
	initial := make([]string, 2)
	for i, name := range []string{"a", "b"} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		peer := url.URL{Scheme: "http", Host: l.Addr().String()}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		c := embed.NewConfig()
		c.Name, c.Dir, c.LogLevel, c.UnsafeNoFsync = name, filepath.Join(dir, name), "fatal", true
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		c.ListenClientUrls = []url.URL{{Scheme: "unix", Host: name + ".sock"}}
		configs[i], initial[i] = c, fmt.Sprintf("%s=%s", name, peer.String())
	}
	members := make([]*embed.Etcd, 2)
	for i, c := range configs {
		c.InitialCluster = strings.Join(initial, ",")
		e, err := embed.StartEtcd(c)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		members[i] = e
	}
	for _, e := range members {
		select {
		case <-e.Server.ReadyNotify():
		case <-time.After(time.Minute):
			t.Fatal("the two do not come up")
		}
	}
	put(t, members[0], keys)
	return configs[0].Dir, configs[1].Dir, uint64(members[1].Server.MemberID())
}

// logOf is the digest of a member's log.
func logOf(t *testing.T, data string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(datadir.ToWALDir(data), "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the log is in %q, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// appendLeave writes into a log that a member goes.
func appendLeave(t *testing.T, data string, id uint64) {
	t.Helper()
	change := raftpb.ConfChange{ID: 1 << 60, Type: raftpb.ConfChangeRemoveNode, NodeID: id}
	body, err := change.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	appendEntry(t, data, raftpb.EntryConfChange, body)
}

// Of two members one has left and is gone; the other was killed before it had written down that both agreed.
func TestSettle(t *testing.T) {
	first, second, id := peers(t, 20)
	before := logOf(t, first)
	if err := Settle(first); err == nil || !strings.Contains(err.Error(), "leaves the voters") {
		t.Errorf("one of two, of which none left: %v", err)
	}
	if logOf(t, first) != before {
		t.Error("its log was changed")
	}
	appendLeave(t, first, id)
	appendLeave(t, second, id)
	if err := Settle(second); err == nil || !strings.Contains(err.Error(), "leaves the voters") {
		t.Errorf("the one that left: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		if err := Settle(first); err != nil {
			t.Fatal(err)
		}
	}
	// It is started as its services do, and not as a new cluster.
	copied := filepath.Join(t.TempDir(), "data")
	if err := copyTree(first, copied); err != nil {
		t.Fatal(err)
	}
	err := running(t.Context(), copied, "a", false, func(e *embed.Etcd) error {
		if keys, err := count(t.Context(), e); err != nil || keys != 20 {
			t.Errorf("%d keys, %v; want 20", keys, err)
		}
		if left := e.Server.Cluster().Members(); len(left) != 1 || left[0].Name != "a" {
			t.Errorf("members: %+v", left)
		}
		client := v3client.New(e.Server)
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := client.Put(ctx, "one", "more")
		if err == nil {
			_, err = client.Get(ctx, "one", clientv3.WithLimit(1))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSettleNoDatastore(t *testing.T) {
	if err := Settle(t.TempDir()); err == nil {
		t.Error("an empty folder is taken for a datastore")
	}
}
