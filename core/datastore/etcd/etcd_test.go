package etcd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// member is a member of etcd with etcd's own messages.
type member struct {
	etcdserverpb.UnimplementedClusterServer
	etcdserverpb.UnimplementedMaintenanceServer
	etcdserverpb.UnimplementedKVServer
	asked []any
}

func (m *member) MemberList(ctx context.Context, r *etcdserverpb.MemberListRequest) (*etcdserverpb.MemberListResponse, error) {
	m.asked = append(m.asked, *r)
	if md, _ := metadata.FromIncomingContext(ctx); r.Linearizable != slices.Equal(md.Get("hasleader"), []string{"true"}) {
		return nil, rpctypes.ErrGRPCNoLeader
	}
	return &etcdserverpb.MemberListResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1 << 63, MemberId: 7}, Members: []*etcdserverpb.Member{
		{ID: 1<<63 + 1, Name: "a", PeerURLs: []string{"https://a:2380", "https://b:2380"}, ClientURLs: []string{"https://a:2379"}}, {ID: 2, IsLearner: true},
	}}, nil
}

func (m *member) MemberAdd(_ context.Context, r *etcdserverpb.MemberAddRequest) (*etcdserverpb.MemberAddResponse, error) {
	m.asked = append(m.asked, *r)
	return nil, rpctypes.ErrGRPCTooManyLearners
}

func (m *member) MemberPromote(_ context.Context, r *etcdserverpb.MemberPromoteRequest) (*etcdserverpb.MemberPromoteResponse, error) {
	m.asked = append(m.asked, *r)
	return &etcdserverpb.MemberPromoteResponse{}, nil
}

func (m *member) MemberRemove(_ context.Context, r *etcdserverpb.MemberRemoveRequest) (*etcdserverpb.MemberRemoveResponse, error) {
	m.asked = append(m.asked, *r)
	return nil, rpctypes.ErrGRPCMemberNotFound
}

func (m *member) MoveLeader(_ context.Context, r *etcdserverpb.MoveLeaderRequest) (*etcdserverpb.MoveLeaderResponse, error) {
	m.asked = append(m.asked, *r)
	return nil, rpctypes.ErrGRPCNotLeader
}

func (m *member) Status(ctx context.Context, _ *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	return &etcdserverpb.StatusResponse{
		Header: &etcdserverpb.ResponseHeader{MemberId: 7, Revision: 9, RaftTerm: 4}, Version: "3.6.8", DbSize: 1 << 40, DbSizeInUse: 5,
		Leader: 7, RaftIndex: 11, RaftTerm: 4, RaftAppliedIndex: 10, Errors: []string{"x", "y"}, StorageVersion: "3.6.0", DbSizeQuota: 3,
	}, nil
}

func (m *member) Range(_ context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	m.asked = append(m.asked, *r)
	if string(r.Key) == "/keys/" {
		return &etcdserverpb.RangeResponse{Count: 2, Kvs: []*mvccpb.KeyValue{{Key: []byte("/keys/a"), Version: 3}, {Key: []byte("/keys/b")}}}, nil
	}
	if string(r.Key) != "/there" {
		return &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{}}, nil
	}
	return &etcdserverpb.RangeResponse{Count: 1, Kvs: []*mvccpb.KeyValue{{Key: r.Key, Value: []byte("value"), Lease: 3, Version: 2}}}, nil
}

func (m *member) DeleteRange(_ context.Context, r *etcdserverpb.DeleteRangeRequest) (*etcdserverpb.DeleteRangeResponse, error) {
	m.asked = append(m.asked, *r)
	return &etcdserverpb.DeleteRangeResponse{Deleted: 1}, nil
}

func (m *member) Snapshot(_ *etcdserverpb.SnapshotRequest, to etcdserverpb.Maintenance_SnapshotServer) error {
	for _, part := range []string{"one ", "two ", "three"} {
		if err := to.Send(&etcdserverpb.SnapshotResponse{Header: &etcdserverpb.ResponseHeader{}, RemainingBytes: 5, Blob: []byte(part)}); err != nil {
			return err
		}
	}
	return nil
}

func serve(t *testing.T) (*Conn, *member) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, server := &member{}, grpc.NewServer()
	etcdserverpb.RegisterClusterServer(server, m)
	etcdserverpb.RegisterMaintenanceServer(server, m)
	etcdserverpb.RegisterKVServer(server, m)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	c, err := Dial("http://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // its server ends too
	return c, m
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestMembersAreReadAsEtcdWritesThem(t *testing.T) {
	t.Parallel()
	c, _ := serve(t)
	for _, agreed := range []bool{true, false} {
		r, err := c.Members(limited(t), agreed)
		if err != nil {
			t.Fatal(err)
		}
		if r.Cluster != 1<<63 || r.Self != 7 || len(r.Members) != 2 {
			t.Fatalf("%+v", r)
		}
		a, b := r.Members[0], r.Members[1]
		if a.ID != 1<<63+1 || a.Name != "a" || !slices.Equal(a.PeerURLs, []string{"https://a:2380", "https://b:2380"}) || !slices.Equal(a.ClientURLs, []string{"https://a:2379"}) || a.Learner {
			t.Errorf("%+v", a)
		}
		if b.ID != 2 || !b.Learner {
			t.Errorf("%+v", b)
		}
	}
}

func TestStatusIsReadAsEtcdWritesIt(t *testing.T) {
	t.Parallel()
	c, _ := serve(t)
	s, err := c.Status(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	if s.Member != 7 || s.Leader != 7 || s.Revision != 9 || s.Version != "3.6.8" || s.Size != 1<<40 || s.InUse != 5 || s.RaftIndex != 11 || s.RaftApplied != 10 || !slices.Equal(s.Errors, []string{"x", "y"}) {
		t.Errorf("%+v", s)
	}
}

func TestValuesAndSnapshotsArrive(t *testing.T) {
	t.Parallel()
	c, m := serve(t)
	if v, found, err := c.Get(limited(t), "/there"); err != nil || !found || string(v) != "value" {
		t.Errorf("%q, %v, %v", v, found, err)
	}
	if v, found, err := c.Get(limited(t), "/absent"); err != nil || found {
		t.Errorf("%q, %v, %v", v, found, err)
	}
	if r, ok := m.asked[0].(etcdserverpb.RangeRequest); !ok || !r.Serializable {
		t.Errorf("asked for %+v", m.asked[0])
	}
	var b bytes.Buffer
	if err := c.Snapshot(limited(t), &b); err != nil || b.String() != "one two three" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestChangesAndRefusalsAreEtcds(t *testing.T) {
	t.Parallel()
	c, m := serve(t)
	if err := c.AddLearner(limited(t), "https://c:2380"); !errors.Is(err, rpctypes.ErrTooManyLearners) {
		t.Error(err)
	}
	if err := c.Promote(limited(t), 1<<63); err != nil {
		t.Error(err)
	}
	if err := c.Remove(limited(t), 3); !errors.Is(err, rpctypes.ErrMemberNotFound) {
		t.Error(err)
	}
	if err := c.MoveLeader(limited(t), 4); !errors.Is(err, rpctypes.ErrNotLeader) {
		t.Error(err)
	}
	add, _ := m.asked[0].(etcdserverpb.MemberAddRequest)
	promote, _ := m.asked[1].(etcdserverpb.MemberPromoteRequest)
	remove, _ := m.asked[2].(etcdserverpb.MemberRemoveRequest)
	move, _ := m.asked[3].(etcdserverpb.MoveLeaderRequest)
	if !slices.Equal(add.PeerURLs, []string{"https://c:2380"}) || !add.IsLearner || promote.ID != 1<<63 || remove.ID != 3 || move.TargetID != 4 {
		t.Errorf("asked %+v", m.asked)
	}
}

func TestKeysAreListedAndDeleted(t *testing.T) {
	t.Parallel()
	c, m := serve(t)
	keys, err := c.Keys(limited(t), "/keys/")
	if err != nil || !slices.Equal(keys, []string{"/keys/a", "/keys/b"}) {
		t.Errorf("%q, %v", keys, err)
	}
	if err := c.Delete(limited(t), "/keys/a"); err != nil {
		t.Error(err)
	}
	list, _ := m.asked[0].(etcdserverpb.RangeRequest)
	gone, _ := m.asked[1].(etcdserverpb.DeleteRangeRequest)
	if string(list.RangeEnd) != "/keys0" || !list.KeysOnly || list.Serializable || string(gone.Key) != "/keys/a" || len(gone.RangeEnd) != 0 {
		t.Errorf("asked %+v", m.asked)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // it never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	c, err := Dial("http://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzAnswers(f *testing.F) {
	for _, m := range []interface{ Marshal() ([]byte, error) }{
		&etcdserverpb.MemberListResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1}, Members: []*etcdserverpb.Member{{ID: 1, PeerURLs: []string{"x"}}}},
		&etcdserverpb.StatusResponse{Header: &etcdserverpb.ResponseHeader{MemberId: 1}, Errors: []string{"x"}},
		&etcdserverpb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Value: []byte("x")}}},
	} {
		data, err := m.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = parseRoll(data)
		_, _ = parseBlob(data)
		if s, err := parseStatus(data); err == nil {
			var theirs etcdserverpb.StatusResponse
			if theirs.Unmarshal(data) == nil && (s.Version != theirs.Version || s.RaftIndex != theirs.RaftIndex || s.Leader != theirs.Leader) {
				t.Errorf("read %+v, etcd reads %+v", s, &theirs)
			}
		}
		_, _, _ = parseValue(data)
	})
}
