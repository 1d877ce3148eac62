package netinfo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// longestQuiet is when a set is told although changes go on. It is longer
	// than a minute, so that a minute of changes is one call.
	longestQuiet = 90 * time.Second
	// retry is the pause before netlink is subscribed to again.
	retry = time.Second
)

// Watch calls changed with the new set when the addresses fit for a
// certificate have changed and then nothing has for the time quiet, or 90 s
// after the first change if it never gets quiet. It compares with the set at
// its own start, then with the one it told last, so a change that was taken
// back is not told. It returns when ctx ends, or at once where the kernel
// refuses to answer. changed is called by the caller's own goroutine.
func Watch(ctx context.Context, quiet time.Duration, changed func([]netip.Addr), named ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan struct{}, 1)
	s, err := subscribe()
	if err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	var listener sync.WaitGroup
	listener.Go(func() { listen(ctx, s, events) })
	defer listener.Wait()
	defer cancel()
	read := func() ([]netip.Addr, error) { return Addresses(ctx, named...) }
	if err := debounce(ctx, quiet, events, read, changed); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	return nil
}

// debounce turns events into calls; ctx ends it without an error.
func debounce(ctx context.Context, quiet time.Duration, events <-chan struct{},
	read func() ([]netip.Addr, error), changed func([]netip.Addr),
) error {
	last, err := read()
	if err != nil {
		return err
	}
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	var first time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			if first.IsZero() {
				first = time.Now()
			}
			timer.Reset(min(quiet, longestQuiet-time.Since(first)))
		case <-timer.C:
			now, err := read()
			if err != nil {
				timer.Reset(max(quiet, retry))
				continue
			}
			first = time.Time{}
			if !slices.Equal(now, last) {
				last = now
				changed(now)
			}
		}
	}
}

func subscribe() (*nl.NetlinkSocket, error) {
	return nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
}

// listen makes one event of any number of messages. What a message says does
// not matter, the state is read anew; so a lost one (ENOBUFS) matters as
// little, as long as it is an event too.
func listen(ctx context.Context, s *nl.NetlinkSocket, events chan<- struct{}) {
	event := func() {
		select {
		case events <- struct{}{}:
		default:
		}
	}
	for ctx.Err() == nil {
		if s == nil {
			var err error
			if s, err = subscribe(); err != nil {
				s = nil
				pause(ctx)
				continue
			}
			event() // whatever happened in between
		}
		if err := receive(ctx, s, event); err != nil {
			s.Close()
			s = nil
			event()
			if !errors.Is(err, unix.ENOBUFS) {
				pause(ctx)
			}
		}
	}
	if s != nil {
		s.Close()
	}
}

// receive returns when the socket fails, or is closed because ctx has ended.
func receive(ctx context.Context, s *nl.NetlinkSocket, event func()) error {
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	for ctx.Err() == nil {
		_, _, err := s.Receive()
		switch {
		case err == nil:
			event()
		case errors.Is(err, unix.EINTR):
		default:
			return err
		}
	}
	return nil
}

func pause(ctx context.Context) {
	timer := time.NewTimer(retry)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
