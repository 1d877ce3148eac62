package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
	addonsv1 "mk8s.io/mk/sdk/proto/mk/addons/v1"
	certsv1 "mk8s.io/mk/sdk/proto/mk/certs/v1"
	clusteringv1 "mk8s.io/mk/sdk/proto/mk/clustering/v1"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
	tokensv1 "mk8s.io/mk/sdk/proto/mk/tokens/v1"
	"mk8s.io/mk/sdk/tokens"
)

func operations() changeset.ChangeSet {
	return changeset.Build().
		MakeFolder("a").Mode(0o700).Because("why").
		WriteFile("b", []byte("x")).Mode(0o600).Secret().Expecting(changeset.Absent).
		MovePath("b", "c").RemovePath("d").
		SetArgument("etcd", "name", "n").Owner("o").Secret().SetFlag("etcd", "debug").
		RemoveArgument("etcd", "name", "o").SetLock("l").ClearLock("l").
		Start("s").Stop("s").Restart("s").Control("s", changeset.Enable).Control("s", changeset.Disable).
		IssueCertificate("p").DNSNames("d").IPAddresses("10.0.0.1").Life(time.Hour).Peer("a:1").
		SetTrust("kubernetes", []byte("PEM")).OnEveryNode().
		SetTrusts("front-proxy", []byte("root"), []byte("intermediate")).
		ChangeMember(changeset.AddLearner, "https://a:1", "n").
		ChangeMember(changeset.Promote, "https://a:1", "").
		ChangeMember(changeset.RemoveMember, "https://a:1", "").
		Wait(changeset.Wait{Timeout: time.Minute, Service: "s"}).
		Wait(changeset.Wait{Address: "a:1"}).Wait(changeset.Wait{Node: "n"}).
		Wait(changeset.Wait{Object: &changeset.ObjectReference{Group: "g", Version: "v1", Kind: "K", Namespace: "ns", Name: "n"}}).
		Wait(changeset.Wait{MemberCaughtUp: "https://a:1"}).Wait(changeset.Wait{MemberVoting: "https://a:1"}).
		ApplyManifests("i", []byte("m")).Secret().DeleteManifests("i").
		Add(&changeset.ActivatePlugin{Kind: "certs", Name: "x", Digest: "d", Authority: "a"}).
		ChangeSet()
}

func TestChangeSetRoundTrip(t *testing.T) {
	t.Parallel()
	want := operations()
	m, err := FromChangeSet(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var read pluginv1.ChangeSet
	if err := proto.Unmarshal(b, &read); err != nil {
		t.Fatal(err)
	}
	got, err := ToChangeSet(&read)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
	seen := map[string]bool{}
	for _, o := range m.GetOperations() {
		seen[string(o.ProtoReflect().WhichOneof(o.ProtoReflect().Descriptor().Oneofs().Get(0)).Name())] = true
	}
	if n := (&pluginv1.Operation{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields().Len(); len(seen) != n {
		t.Errorf("%d of %d actions are tried", len(seen), n)
	}
}

// TestFilledRequestsRoundTrip fills every field by reflection, so that a field
// which a conversion forgets is noticed.
func TestFilledRequestsRoundTrip(t *testing.T) {
	t.Parallel()
	trip(t, FromDescription, func(m *pluginv1.DescribeResponse) (plugin.Description, error) { return ToDescription(m), nil })
	trip(t, FromNode, func(m *pluginv1.Node) (plugin.Node, error) { return ToNode(m), nil })
	trip(t, FromBootstrap, ToBootstrap)
	trip(t, FromAuthority, ToAuthority)
	trip(t, FromSign, ToSign)
	trip(t, FromCrossSign, ToCrossSign)
	trip(t, FromInvite, ToInvite)
	trip(t, FromAdmit, ToAdmit)
	trip(t, FromJoin, ToJoin)
	trip(t, FromServe, ToServe)
	trip(t, FromPending, ToPending)
	trip(t, FromIssued, ToIssued)
	trip(t, func(r tokens.IssueRequest) *tokensv1.IssueRequest { return must(t, r, FromIssue) }, ToIssue)
	trip(t, func(r tokens.ReserveRequest) *tokensv1.ReserveRequest { return must(t, r, FromReserve) }, ToReserve)
	trip(t, func(r tokens.Reservation) *tokensv1.ReserveResponse { return must(t, r, FromReservation) }, ToReservation)
	trip(t, func(r []tokens.Token) *tokensv1.ListResponse { return must(t, r, FromTokens) }, ToTokens)
	trip(t, FromLeave, func(m *clusteringv1.LeaveRequest) (clustering.LeaveRequest, error) { return ToLeave(m), nil })
	trip(t, FromRemove, func(m *clusteringv1.RemoveRequest) (clustering.RemoveRequest, error) { return ToRemove(m), nil })
	trip(t, FromAbort, func(m *clusteringv1.AbortRequest) (clustering.AbortRequest, error) { return ToAbort(m), nil })
	trip(t, FromPlan, func(m *addonsv1.PlanRequest) (addons.PlanRequest, error) { return ToPlan(m), nil })
	trip(t, FromPeer, ToPeer)
	trip(t, FromPeerResponse, ToPeerResponse)
}

func must[A, B any](t *testing.T, a A, f func(A) (B, error)) B {
	t.Helper()
	b, err := f(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func trip[A any, M proto.Message](t *testing.T, from func(A) M, to func(M) (A, error)) {
	t.Helper()
	var want A
	fill(reflect.ValueOf(&want).Elem())
	m := from(want)
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	read := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(b, read); err != nil {
		t.Fatal(err)
	}
	got, err := to(read)
	if err != nil {
		t.Fatalf("%T: %v", want, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%T: got\n%+v\nwant\n%+v", want, got, want)
	}
}

func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1_800_000_000, 5).UTC()))
		return
	case time.Duration:
		v.SetInt(int64(time.Hour))
		return
	case tokens.Purpose:
		v.SetString(string(tokens.Callback))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Map:
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(k)
		fill(e)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, e)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(204)
	case reflect.Uint8, reflect.Uint32:
		v.SetUint(7)
	}
}

func TestHostileAnswersAreErrors(t *testing.T) {
	t.Parallel()
	wrong := func(o *pluginv1.Operation) error {
		_, err := ToChangeSet(&pluginv1.ChangeSet{Operations: []*pluginv1.Operation{o}})
		return err
	}
	unknown := &pluginv1.Operation{}
	unknown.ProtoReflect().SetUnknown([]byte{0xf2, 0x01, 0x00}) // field 30, empty
	one := []certs.CertificateRequest{{ID: "a"}}
	second := func(_ any, err error) error { return err }
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"no action":       {wrong(nil), "operation 1: has no action"},
		"unknown action":  {wrong(unknown), "does not know"},
		"scope":           {wrong(&pluginv1.Operation{Scope: 9}), "scope 9 is unknown"},
		"service action":  {wrong(&pluginv1.Operation{Action: &pluginv1.Operation_ControlService{}}), "service action 0 is unknown"},
		"member action":   {wrong(&pluginv1.Operation{Action: &pluginv1.Operation_ChangeMember{ChangeMember: &pluginv1.ChangeMember{Action: 77}}}), "member action 77"},
		"duration":        {wrong(&pluginv1.Operation{Action: &pluginv1.Operation_Wait{Wait: &pluginv1.Wait{Timeout: &durationpb.Duration{Seconds: 1, Nanos: -1}}}}), "timeout"},
		"negative":        {second(ToAnswer(&pluginv1.Answer{NotYet: &pluginv1.NotYet{RetryAfter: durationpb.New(-1)}})), "negative"},
		"endless":         {second(ToAnswer(&pluginv1.Answer{NotYet: &pluginv1.NotYet{RetryAfter: &durationpb.Duration{Seconds: 315576000000}}})), "longer than"},
		"both":            {second(ToAnswer(&pluginv1.Answer{NotYet: &pluginv1.NotYet{}, Next: &pluginv1.Step{Name: "x"}})), "together with"},
		"nameless step":   {second(ToAnswer(&pluginv1.Answer{Next: &pluginv1.Step{State: []byte("x")}})), "without a name"},
		"too many":        {second(ToChangeSet(&pluginv1.ChangeSet{Operations: make([]*pluginv1.Operation, 1001)})), "at most 1000"},
		"time":            {second(ToIssued(&tokensv1.IssueResponse{Expires: &timestamppb.Timestamp{Nanos: -1}})), "expires"},
		"purpose":         {second(ToReservation(&tokensv1.ReserveResponse{Purpose: 99})), "purpose 99"},
		"no authority":    {second(ToAuthority(nil)), "no authority"},
		"fewer results":   {second(ToSigned(&certsv1.SignResponse{}, one)), "0 results for 1"},
		"other result":    {second(ToSigned(&certsv1.SignResponse{Results: []*certsv1.SignResult{{Id: "b"}}}, one)), `"b" instead of "a"`},
		"no outcome":      {second(ToSigned(&certsv1.SignResponse{Results: []*certsv1.SignResult{{Id: "a"}}}, one)), "no outcome"},
		"nil result":      {second(ToSigned(&certsv1.SignResponse{Results: []*certsv1.SignResult{nil}}, one)), "answers request"},
		"no verdict":      {second(ToVerdict(nil)), "no verdict"},
		"HTTP status":     {second(ToServed(&clusteringv1.ServeResponse{Status: 99})), "no HTTP status"},
		"long body":       {second(ToServe(&clusteringv1.ServeRequest{Body: make([]byte, MaxBody+1)})), "at most 65536"},
		"two outcomes":    {second(FromSigned([]certs.SignResult{{Granted: &certs.Granted{}, Refused: &certs.Refused{}}})), "2 outcomes"},
		"unknown purpose": {second(FromIssue(tokens.IssueRequest{Purpose: "x"})), "purpose"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
}

func TestErrorsKeepTheirReason(t *testing.T) {
	t.Parallel()
	said := &plugin.Error{Reason: plugin.TokenUsed, Message: "token used", Next: "mk add-node"}
	err := FromStatus(Status(fmt.Errorf("reserving: %w", said)))
	if !errors.Is(err, plugin.TokenUsed) || err.Error() != "reserving: token used" {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*plugin.Error](err); !ok || e.Next != said.Next || Lost(err) {
		t.Fatalf("%#v", err)
	}
	if err := FromStatus(Status(err)); !errors.Is(err, plugin.TokenUsed) {
		t.Fatalf("second hop: %v", err)
	}
	if err := FromStatus(Status(errors.New("plain"))); !errors.Is(err, plugin.ReasonOf(errors.New(""))) || err.Error() != "plain" {
		t.Fatal(err)
	}
	for c, want := range map[codes.Code]error{codes.DeadlineExceeded: context.DeadlineExceeded, codes.Canceled: context.Canceled,
		codes.Unimplemented: plugin.Unsupported, codes.Unavailable: plugin.Unavailable, codes.Unknown: plugin.Internal} {
		if err := FromStatus(status.Error(c, "x")); !errors.Is(err, want) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if !Lost(FromStatus(status.Error(codes.Unavailable, "EOF"))) {
		t.Error("a lost peer is not recognized")
	}
	conn, err := grpc.NewClient("unix:/nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		err = conn.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Invoke(t.Context(), "/x/y", &pluginv1.HealthRequest{}, &pluginv1.HealthResponse{}); !Lost(FromStatus(err)) {
		t.Error("a connection that was closed under a call is not lost", err)
	}
	if Lost(FromStatus(status.Error(codes.Canceled, "by the caller"))) {
		t.Error("who gives up has lost nothing")
	}
	if Lost(FromStatus(Status(plugin.Errorf(plugin.Unavailable, "vault is down")))) {
		t.Error("what a plugin says is taken for its end")
	}
	hostile := FromStatus(Status(&plugin.Error{Reason: "rm -rf\n", Message: "\x1b[31m" + strings.Repeat("x", 1<<20)}))
	if plugin.ReasonOf(hostile) != plugin.Internal || len(hostile.Error()) > maxMessage+10 || strings.Contains(hostile.Error(), "\x1b") {
		t.Errorf("%q", hostile.Error()[:40])
	}
}

func FuzzChangeSet(f *testing.F) {
	m, err := FromChangeSet(operations())
	if err != nil {
		f.Fatal(err)
	}
	seed, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(bytes.Repeat([]byte{0x0a, 0x00}, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pluginv1.ChangeSet
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		c, err := ToChangeSet(&m)
		if err != nil {
			return
		}
		if c.Validate() != nil {
			return
		}
		if _, err := FromChangeSet(c); err != nil {
			t.Fatalf("valid but cannot be sent again: %v", err)
		}
	})
}
