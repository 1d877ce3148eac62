package netinfo

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// source is a set of addresses with an event for each change.
type source struct {
	events chan struct{}
	mu     sync.Mutex
	set    []netip.Addr
	err    error
	calls  [][]netip.Addr
}

func (s *source) become(last byte) {
	s.answer([]netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, last})}, nil)
	s.event()
}

func (s *source) answer(set []netip.Addr, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set, s.err = set, err
}

func (s *source) read() ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set, s.err
}

func (s *source) event() {
	select {
	case s.events <- struct{}{}:
	default:
	}
}

func watching(t *testing.T, play func(*source)) *source {
	t.Helper()
	s := &source{set: []netip.Addr{}}
	synctest.Test(t, func(t *testing.T) {
		s.events = make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- debounce(ctx, 5*time.Second, s.events,
				s.read,
				func(set []netip.Addr) { s.calls = append(s.calls, set) })
		}()
		synctest.Wait()
		play(s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func after(d time.Duration) { <-time.After(d); synctest.Wait() }

func TestThirtyChangesInAMinuteAreOneCall(t *testing.T) {
	t.Parallel()
	s := watching(t, func(s *source) {
		for i := range byte(30) {
			s.become(i + 1)
			after(2 * time.Second)
		}
		after(10 * time.Second)
	})
	if len(s.calls) != 1 || s.calls[0][0].String() != "10.0.0.30" {
		t.Errorf("calls %v", s.calls)
	}
}

func TestWithoutAnyQuietThereIsACallAllTheSame(t *testing.T) {
	t.Parallel()
	s := watching(t, func(s *source) {
		for i := range byte(100) {
			s.become(i + 1)
			after(time.Second)
		}
	})
	if len(s.calls) != 1 {
		t.Errorf("calls %v", s.calls)
	}
}

func TestWhatChangesNothingIsNoCall(t *testing.T) {
	t.Parallel()
	s := watching(t, func(s *source) {
		s.event() // a bridge, a pod's link
		after(time.Minute)
		before, _ := s.read()
		s.become(1)
		after(time.Second)
		s.answer(before, nil) // and back, within the quiet time
		s.event()
		after(time.Minute)
	})
	if len(s.calls) != 0 {
		t.Errorf("calls %v", s.calls)
	}
}

func TestAFailedLookIsRepeated(t *testing.T) {
	t.Parallel()
	s := watching(t, func(s *source) {
		set := []netip.Addr{netip.MustParseAddr("10.0.0.7")}
		s.answer(set, errors.New("busy"))
		s.event()
		after(20 * time.Second)
		s.answer(set, nil)
		after(20 * time.Second)
	})
	if len(s.calls) != 1 || !slices.Equal(s.calls[0], s.set) {
		t.Errorf("calls %v", s.calls)
	}
}
