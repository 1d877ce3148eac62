package operation

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/revoked"
)

// heldList keeps the list as an API server does: a version that was replaced
// cannot be written over.
type heldList struct {
	mu      sync.Mutex
	data    map[string][]byte
	version int
	writes  int
	meddle  int           // so often another node writes first
	hold    chan struct{} // where set, writing waits for it
}

func (l *heldList) read(context.Context) (kube.Document, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	data := maps.Clone(l.data)
	if data == nil {
		data = map[string][]byte{}
	}
	return kube.Document{Data: data, Version: strconv.Itoa(l.version)}, nil
}

func (l *heldList) write(_ context.Context, doc kube.Document) error {
	if l.hold != nil {
		<-l.hold
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.meddle > 0 {
		l.meddle--
		l.version++
	}
	if doc.Version != strconv.Itoa(l.version) {
		return apierrors.NewConflict(corev1.Resource("configmaps"), revoked.Name, errors.New("it has another version"))
	}
	l.version++
	l.writes++
	l.data = maps.Clone(doc.Data)
	return nil
}

func put(name string) func(map[string][]byte) bool {
	return func(list map[string][]byte) bool {
		list[name] = []byte(time.Unix(0, 0).UTC().Format(time.RFC3339))
		return true
	}
}

// Many nodes that go at once are one or two changes of the list, and none of
// them fails for the others.
func TestManyAreBarredAtOnce(t *testing.T) {
	t.Parallel()
	b, list, now := newBarring(), &heldList{hold: make(chan struct{}), meddle: 20}, time.Unix(3600, 0)
	errs := make(chan error, 65)
	bar := func(ctx context.Context, name string) { errs <- b.change(ctx, list, now, put(name)) }
	gone, leave := context.WithCancel(t.Context())
	go bar(gone, "first")
	waitFor(t, b, func() bool { return len(b.turn) == 1 && len(b.next) == 0 })
	leave() // what was begun for it and others is done all the same
	for i := range 64 {
		go bar(t.Context(), "n"+strconv.Itoa(i))
	}
	waitFor(t, b, func() bool { return len(b.next) == 64 })
	close(list.hold)
	for range 65 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if len(list.data) != 65 || list.writes != 2 {
		t.Errorf("%d names after %d writes", len(list.data), list.writes)
	}
	// What changes nothing is not written; what is old goes.
	drop := func(m map[string][]byte) bool { _, there := m["nobody"]; return there }
	if err := b.change(t.Context(), list, now, drop); err != nil || list.writes != 2 {
		t.Errorf("%d writes: %v", list.writes, err)
	}
	if err := b.change(t.Context(), list, time.Unix(0, 0).Add(barredFor+time.Hour), put("late")); err != nil || len(list.data) != 0 {
		t.Errorf("%v are kept: %v", list.data, err)
	}
}

// Who waits for the turn of another gives up with its context.
func TestBarringEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	b, list := newBarring(), &heldList{}
	b.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.change(ctx, list, time.Now(), put("n")); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "removed nodes") {
		t.Errorf("%v", err)
	}
}

// waitFor waits for a state of what is guarded by the barring's lock.
func waitFor(t *testing.T, b *barring, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		b.mu.Lock()
		yes := holds()
		b.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it never holds")
		}
	}
}
