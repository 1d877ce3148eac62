//go:build cluster

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/node"
)

// etcdOf is a client of a member of the datastore, from within its machine.
func etcdOf(t *testing.T, m *machine) *clientv3.Client {
	t.Helper()
	root, err := node.Open(m.Root, node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() //nolint:errcheck // only read
	credentials, err := datastore.Credentials(root)
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"https://" + m.Address + ":12379"}, TLS: credentials, DialTimeout: 5 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return m.dial(ctx, "tcp", address)
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// leaderMoves has the leadership go from one voter to the other while a node is
// a learner of the datastore, and right after it has become one or votes. It
// ends with the function that it answers, which tells how often that was.
func leaderMoves(t *testing.T, voters ...*machine) (stop func() (moves int)) {
	t.Helper()
	var clients []*clientv3.Client
	for _, m := range voters {
		clients = append(clients, etcdOf(t, m))
	}
	ctx, cancel := context.WithCancel(t.Context())
	moves, last := 0, ""
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now, learns := membersNow(ctx, clients); now != "" && (learns || now != last) {
				if last != "" && moveLeader(ctx, clients) {
					moves++
				}
				last = now
			}
		}
	})
	return func() int {
		cancel()
		group.Wait()
		return moves
	}
}

// membersNow names the members with their roles, and tells whether one learns.
func membersNow(ctx context.Context, clients []*clientv3.Client) (all string, learns bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, c := range clients {
		list, err := c.MemberList(ctx, clientv3.WithSerializable())
		if err != nil {
			continue
		}
		for _, m := range list.Members {
			all += m.Name + " "
			if m.IsLearner {
				all, learns = all+"(learns) ", true
			}
		}
		return all, learns
	}
	return "", false
}

// moveLeader has the one of two members that leads hand over to the other.
func moveLeader(ctx context.Context, clients []*clientv3.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var ids []uint64
	leader := uint64(0)
	for _, c := range clients {
		s, err := c.Status(ctx, c.Endpoints()[0])
		if err != nil {
			return false
		}
		ids, leader = append(ids, s.Header.MemberId), s.Leader
	}
	for i, c := range clients {
		if ids[i] == leader {
			_, err := c.MoveLeader(ctx, ids[(i+1)%len(ids)])
			return err == nil
		}
	}
	return false
}

// joinsWhileTheLeaderMoves has a node leave and join meanwhile. A worker's proxy
// follows both; one of the nodes that stay has taken a snapshot before.
func joinsWhileTheLeaderMoves(t *testing.T, voters []*machine, m *machine, name string, worker *machine) {
	t.Helper()
	server := voters[0]
	m.run("mk", "leave")
	wholeCluster(t, server, 4, 2)
	proxied(worker, voters...)
	if why := append(snapshotsOf(voters[0]), snapshotsOf(voters[1])...); !slices.Contains(why, "leave") {
		t.Errorf("snapshots of those that stay: %q", why)
	}
	words := []string{"join", server.invite(), "--name", name}
	stop := leaderMoves(t, voters...)
	began := time.Now()
	out, err := m.try(5*time.Minute, "mk", words...)
	moves := stop()
	t.Logf("joined in %s while the leader moved %d times: %v\n%s", round(time.Since(began)), moves, err, out)
	if moves < 2 {
		t.Errorf("the leader moved %d times", moves)
	}
	if err != nil {
		t.Errorf("a join while the leader moves: %v", err)
		m.run("mk", words...)
	}
	wholeCluster(t, server, 5, 3)
	proxied(worker, append(voters, m)...)
}

// proxied waits until a worker's proxy passes connections on to these API
// servers, and no others.
func proxied(worker *machine, to ...*machine) {
	worker.t.Helper()
	var want []string
	for _, m := range to {
		want = append(want, m.Address+":16443")
	}
	slices.Sort(want)
	worker.eventually(2*time.Minute, func() error {
		list, err := os.ReadFile(filepath.Join(worker.Root, "var/lib/apiserver-endpoints"))
		have := strings.Fields(string(list))
		if slices.Sort(have); err == nil && !slices.Equal(have, want) {
			err = fmt.Errorf("the proxy of %s knows %q, want %q", worker.Machine.Name, have, want)
		}
		return err
	})
}

// snapshotsOf says why a node took its snapshots, the newest first.
func snapshotsOf(m *machine) (why []string) {
	m.t.Helper()
	var all []struct {
		Why string `json:"why"`
	}
	if err := json.Unmarshal([]byte(m.run("mk", "datastore", "snapshot", "list", "-o", "json")), &all); err != nil {
		m.t.Fatal(err)
	}
	for _, s := range all {
		why = append(why, s.Why)
	}
	return why
}
