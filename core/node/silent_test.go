package node

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestAwaitGivesUpAndReleases(t *testing.T) {
	t.Parallel()
	never, released := make(chan struct{}), make(chan int, 1)
	began := time.Now()
	_, err := Await(100*time.Millisecond, "/first", func(at func(string)) (int, error) {
		at("/second")
		<-never
		return 7, nil
	}, func(v int) { released <- v })
	silent, ok := errors.AsType[*SilentError](err)
	if !ok || silent.Path != "/second" || err.Error() != "/second: no answer in 100ms" || time.Since(began) > 5*time.Second {
		t.Fatalf("got %v after %s", err, time.Since(began))
	}
	close(never)
	select {
	case v := <-released:
		if v != 7 {
			t.Errorf("released %d", v)
		}
	case <-t.Context().Done():
	case <-time.After(10 * time.Second):
		t.Error("what came late was not released")
	}
}

func TestAwaitPassesOn(t *testing.T) {
	t.Parallel()
	v, err := Await(time.Minute, "/x", func(func(string)) (int, error) { return 3, os.ErrExist }, func(int) {})
	if v != 3 || !errors.Is(err, os.ErrExist) {
		t.Errorf("got %d, %v", v, err)
	}
}

func TestUnopenedTouchesNoDisk(t *testing.T) {
	t.Parallel()
	r, err := Unopened("/nowhere/mk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadFile("node.json"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if got := r.Path("args"); got != "/nowhere/mk/args" {
		t.Errorf("path %s", got)
	}
}

// A disk that says that it is gone is as one that gives no answer.
func TestAwaitTellsADiskThatIsGone(t *testing.T) {
	t.Parallel()
	gone := &os.PathError{Op: "open", Path: "/x/y", Err: syscall.ENOTCONN}
	_, err := Await(time.Minute, "/x", func(func(string)) (int, error) { return 0, fmt.Errorf("read settings: %w", gone) }, func(int) {})
	silent, ok := errors.AsType[*SilentError](err)
	if !ok || silent.Path != "/x" || !errors.Is(err, syscall.ENOTCONN) || err.Error() != "/x: transport endpoint is not connected" {
		t.Errorf("got %v", err)
	}
}
