//go:build realapi

package datastore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"mk8s.io/mk/sdk/plugin"
)

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestMembersComeAndGo(t *testing.T) {
	w, ctx := newWorld(t), bounded(t)
	c := w.grow(ctx, "a")
	w.write(ctx, c, "before", "1")

	var wg sync.WaitGroup
	for range 4 { // nodes that ask at once, and whoever asks again
		wg.Go(func() {
			if err := c.AddLearner(ctx, peer("b")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := c.AddLearner(ctx, peer("c")); !errors.Is(err, Joining) || !strings.Contains(err.Error(), host("b")+" is joining") {
		t.Fatalf("a second learner: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := c.Promote(short, peer("b"), nil); err == nil || !strings.Contains(err.Error(), "never started") {
		t.Fatalf("a learner that never started votes: %v", err)
	}
	w.start("b", "existing", "a b")
	var told []string
	if err := c.Promote(ctx, peer("b"), func(s string) { told = append(told, s) }); err != nil || len(told) == 0 {
		t.Fatal(err, told)
	}
	if err := errors.Join(c.Promote(ctx, peer("b"), nil), c.WaitVoting(ctx, peer("b"), nil), c.WaitCaughtUp(ctx, peer("b"), nil)); err != nil {
		t.Fatal(err)
	}
	if err := c.AddLearner(ctx, peer("b")); !errors.Is(err, plugin.NotPossible) {
		t.Fatalf("a voter becomes a learner: %v", err)
	}
	s := w.until(ctx, c, func(s *Status) bool { return len(s.Voters()) == 2 && len(s.Silent()) == 0 })
	if s.Leader != "a" || s.Members[1].Name != "b" || s.Members[1].Size == 0 || s.Revision < 2 || s.Members[0].Version == "" {
		t.Fatalf("%+v", s)
	}

	if err := errors.Join(c.MoveLeader(ctx, peer("a")), c.MoveLeader(ctx, peer("a"))); err != nil {
		t.Fatal(err)
	}
	w.until(ctx, c, func(s *Status) bool { return s.Leader == "b" })
	// A leader goes: it hands over first. Asked again, it is gone already.
	if err := errors.Join(c.Remove(ctx, peer("b"), 0, nil), c.Remove(ctx, peer("b"), 0, nil)); err != nil {
		t.Fatal(err)
	}
	w.until(ctx, c, func(s *Status) bool { return len(s.Members) == 1 && s.Leader == "a" })
	if err := c.Remove(ctx, peer("a"), 0, nil); !errors.Is(err, plugin.NotPossible) {
		t.Fatalf("the last voter goes: %v", err)
	}
	if err := c.WaitVoting(ctx, peer("b"), nil); !errors.Is(err, plugin.NotPossible) {
		t.Fatalf("waits for nobody: %v", err)
	}
	if got := w.read(ctx, c, "before"); got != "1" {
		t.Fatalf("read %q", got)
	}
}

// etcd makes a member's ID of its address and the second, and never takes back
// an ID that was removed.
func TestAMemberComesBackWithinASecond(t *testing.T) {
	w, ctx := newWorld(t), bounded(t)
	c := w.grow(ctx, "a")
	for i := range 5 { // two of three within one second, by any clock
		if err := errors.Join(c.AddLearner(ctx, peer("b")), c.Remove(ctx, peer("b"), 0, nil)); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}

// What pods know of another authority goes, in every namespace, and nothing else.
func TestForgetRootBundles(t *testing.T) {
	w, ctx := newWorld(t), bounded(t)
	c := w.grow(ctx, "a")
	keys := map[string]bool{
		namespaces + "default": true, namespaces + "kube-system": true, "/registry/namespaces.x/other": true,
		configMaps + "mine" + rootBundle: true, namespaces + "mine": true,
		configMaps + "default" + rootBundle: false, configMaps + "kube-system" + rootBundle: false,
		configMaps + "default/kube-root-ca.crt.mine": true, configMaps + "default/other": true, "/registry/secrets/default" + rootBundle: true, configMaps + "other" + rootBundle: true,
	}
	for key := range keys {
		w.write(ctx, c, key, "x")
	}
	w.write(ctx, c, configMaps+"mine"+rootBundle, "k8s\x00 and the authority of now\n\x1a")
	for range 2 {
		if err := c.ForgetRootBundles(ctx, []byte("the authority of now\n\n")); err != nil {
			t.Fatal(err)
		}
	}
	for key, stays := range keys {
		if there := w.read(ctx, c, key) != ""; there != stays {
			t.Errorf("%s is there: %v", key, there)
		}
	}
}

// A member whose first start ended while it wrote its database's first pages, as
// on a full disk, is made by the next start.
func TestAMemberThatWasHalfMadeStarts(t *testing.T) {
	w, ctx := newWorld(t), bounded(t)
	w.write(ctx, w.grow(ctx, "a"), "before", "1")
	w.kill("a")
	file := filepath.Join(w.path("a"), "member", "snap", "db")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	half := whole[:2*os.Getpagesize()]
	err = errors.Join(os.RemoveAll(w.path("a")), os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, half, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	c := w.grow(ctx, "a")
	w.write(ctx, c, "after", "2")
	if before, after := w.read(ctx, c, "before"), w.read(ctx, c, "after"); before != "" || after != "2" {
		t.Errorf("read %q and %q", before, after)
	}
}

func TestQuorum(t *testing.T) {
	w, ctx := newWorld(t), bounded(t)
	c := w.grow(ctx, "a", "b", "c")
	heard := time.Date(2026, 11, 23, 2, 41, 0, 0, time.UTC)
	w.write(ctx, c, leasePrefix+"b", string(storedLease(t, heard)))

	w.kill("b")
	s := w.until(ctx, c, func(s *Status) bool { return len(s.Silent()) == 1 && s.Leader != "" })
	if !s.Quorum || s.Need() != nil || !s.Silent()[0].Since.Equal(heard) || s.Silent()[0].Silence == "" {
		t.Fatalf("%+v", s)
	}
	if err := c.Remove(ctx, peer("c"), time.Second, nil); !errors.Is(err, plugin.NotPossible) || !strings.Contains(err.Error(), "1 of 2 members would answer") {
		t.Fatalf("removes who is needed: %v", err)
	}
	w.kill("c")
	s = w.until(ctx, c, func(s *Status) bool { return !s.Quorum })
	if len(s.Silent()) != 2 || s.Need() == nil || s.Need().Error() != "the datastore has no quorum: 1 of 3 members answers" {
		t.Fatalf("%v %+v", s.Need(), s)
	}
	short, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	if _, ok := errors.AsType[*QuorumError](c.Remove(short, peer("b"), time.Minute, nil)); !ok {
		t.Fatal("a change without a quorum is not told as such")
	}

	// Those that come back heal it by themselves, and the others' addresses are known.
	w.start("c", "existing", "a b c")
	w.until(ctx, c, func(s *Status) bool { return s.Quorum })
	w.kill("a")
	w.start("b", "existing", "a b c")
	w.until(ctx, c, func(s *Status) bool { return s.Quorum && len(s.Silent()) == 1 })
	if err := c.Remove(ctx, peer("a"), 0, nil); err != nil {
		t.Fatal(err)
	}
}

// A member goes where the one that is needed then starts again, and its client
// hears whom that waits for. It goes at once, although its own member, which is
// asked first otherwise, may never hear of it.
func TestAMemberThatGoesWaitsForTheOthers(t *testing.T) {
	w, ctx := newWorld(t), bounded(t)
	w.grow(ctx, "a", "b", "c")
	c := w.client("c", "a", "b")
	w.kill("b")
	w.until(ctx, c, func(s *Status) bool { return len(s.Silent()) == 1 && s.Leader != "" })
	told := make(chan string, 100)
	removed := make(chan error, 1)
	go func() { removed <- c.Remove(ctx, peer("c"), time.Minute, func(s string) { told <- s }) }()
	if text := <-told; text != "wait for b: without c, 1 of 2 members would answer, and nothing could be changed" {
		t.Errorf("told %q", text)
	}
	w.start("b", "existing", "a b c")
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	if s := w.until(ctx, c, func(s *Status) bool { return len(s.Silent()) == 0 }); len(s.Members) != 2 {
		t.Errorf("%+v", s)
	}
}

// storedLease is a lease as the API server stores it.
func storedLease(t *testing.T, at time.Time) []byte {
	t.Helper()
	lease := coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: at}}}
	raw, err := lease.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	envelope := runtime.Unknown{Raw: raw}
	body, err := envelope.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Join([][]byte{[]byte("k8s\x00"), body}, nil)
}
