package netinfo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A test in a network namespace of its own is this program started again.
const insideEnv = "MK_NETINFO_TEST"

func TestMain(m *testing.M) {
	if name := os.Getenv(insideEnv); name != "" {
		ctx, cancel := context.WithTimeout(context.TODO(), time.Minute)
		err := inside(ctx, name)
		cancel()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func inNamespace(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), insideEnv+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestARealNamespace(t *testing.T)     { t.Parallel(); inNamespace(t, "look") }
func TestWatchInARealOne(t *testing.T)    { t.Parallel(); inNamespace(t, "watch") }
func TestWatchSurvivesALoss(t *testing.T) { t.Parallel(); inNamespace(t, "overrun") }

func inside(ctx context.Context, name string) error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err == nil {
		err = uplink()
	}
	if err != nil {
		return err
	}
	switch name {
	case "look":
		return look(ctx)
	case "watch":
		return watch(ctx)
	case "overrun":
		return overrun(ctx)
	}
	return fmt.Errorf("no test %q", name)
}

// uplink is what a node in a test namespace has: a veth with the default route.
func uplink() error {
	if err := add(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "outside"}); err != nil {
		return err
	}
	out, err := netlink.LinkByName("outside")
	if err != nil {
		return err
	}
	up, err := netlink.LinkByName("uplink")
	if err != nil {
		return err
	}
	gw := netip.MustParseAddr("10.77.0.1").AsSlice()
	return errors.Join(netlink.LinkSetUp(out), address("uplink", "10.77.0.5/24", 0),
		netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Gw: gw, Priority: 100}))
}

func add(l netlink.Link) error {
	if err := netlink.LinkAdd(l); err != nil {
		return fmt.Errorf("add %s: %w", l.Attrs().Name, err)
	}
	return netlink.LinkSetUp(l)
}

func address(link, prefix string, flags int) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	a.Flags = flags
	if err := netlink.AddrReplace(l, a); err != nil {
		return fmt.Errorf("add %s to %s: %w", prefix, link, err)
	}
	return nil
}

func removeAddress(link, prefix string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return netlink.AddrDel(l, a)
}

func look(ctx context.Context) error {
	card := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "card"}, Mode: netlink.TUNTAP_MODE_TAP}
	docker := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "apps"}}
	err := errors.Join(add(card), add(docker),
		add(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "p0", MasterIndex: docker.Index}, PeerName: "p1"}),
		address("apps", "172.30.0.1/16", 0), address("card", "10.78.0.5/24", 0), address("card", "10.78.0.6/24", 0),
		address("card", "2001:db8::5/64", unix.IFA_F_NODAD))
	if err != nil {
		return err
	}
	got, err := Addresses(ctx)
	if want := "[10.77.0.5 10.78.0.5 10.78.0.6 2001:db8::5]"; err != nil || fmt.Sprint(got) != want {
		return fmt.Errorf("addresses %v, %w; want %s", got, err, want)
	}
	if got, err = Addresses(ctx, "apps"); err != nil || !slices.Contains(got, netip.MustParseAddr("172.30.0.1")) {
		return fmt.Errorf("a named bridge does not count: %v, %w", got, err)
	}
	a, link, err := Default(ctx)
	if err != nil || a.String() != "10.77.0.5" || link != "uplink" {
		return fmt.Errorf("default %v on %s, %w", a, link, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Addresses(ended); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a context that has ended: %w", err)
	}
	return nil
}

// watched runs Watch while play changes things, until play's end.
func watched(ctx context.Context, quiet time.Duration, play func(calls chan []netip.Addr) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	calls, done := make(chan []netip.Addr, 100), make(chan error, 1)
	go func() { done <- Watch(ctx, quiet, func(set []netip.Addr) { calls <- set }) }()
	err := play(calls)
	cancel()
	return errors.Join(err, <-done)
}

func next(ctx context.Context, calls chan []netip.Addr) (string, error) {
	select {
	case set := <-calls:
		return fmt.Sprint(set), nil
	case <-ctx.Done():
		return "", errors.New("no call")
	}
}

// started changes an address until Watch tells of it, so that it is known to
// listen.
func started(ctx context.Context, calls chan []netip.Addr) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i++ {
		if err := address("uplink", fmt.Sprintf("10.77.9.%d/24", i+1), 0); err != nil {
			return err
		}
		select {
		case <-calls:
			return nil
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("watch does not start")
		}
	}
}

func watch(ctx context.Context) error {
	return watched(ctx, 400*time.Millisecond, func(calls chan []netip.Addr) error {
		if err := started(ctx, calls); err != nil {
			return err
		}
		// A docker-like bridge comes, gets addresses and containers, and goes.
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "docker9"}}
		err := errors.Join(add(bridge), address("docker9", "172.19.0.1/16", 0), address("docker9", "fd01::1/64", unix.IFA_F_NODAD),
			add(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "c0", MasterIndex: bridge.Index}, PeerName: "c1"}),
			address("c1", "172.19.0.2/16", 0))
		if err != nil {
			return err
		}
		select {
		case set := <-calls:
			return fmt.Errorf("a bridge of containers is told: %v", set)
		case <-time.After(1500 * time.Millisecond):
		}
		if err := netlink.LinkDel(bridge); err != nil {
			return err
		}
		for i := range 30 {
			if err := address("uplink", fmt.Sprintf("10.77.1.%d/32", i+1), 0); err != nil {
				return err
			}
			if i > 0 {
				if err := removeAddress("uplink", fmt.Sprintf("10.77.1.%d/32", i)); err != nil {
					return err
				}
			}
			<-time.After(20 * time.Millisecond)
		}
		got, err := next(ctx, calls)
		if err != nil || !strings.Contains(got, "10.77.1.30") {
			return fmt.Errorf("told %s, %w", got, err)
		}
		select {
		case set := <-calls:
			return fmt.Errorf("a second call: %v", set)
		case <-time.After(1500 * time.Millisecond):
			return nil
		}
	})
}

// overrun makes more messages than a socket holds while nobody reads, because
// the reader is busy with a full state for each, and wants the last one told.
func overrun(ctx context.Context) error {
	s, err := subscribe()
	if err != nil {
		return err
	}
	if err := s.SetReceiveBufferSize(1, true); err != nil {
		return err
	}
	for i := range 200 {
		if err := address("uplink", fmt.Sprintf("10.77.2.%d/24", i+1), 0); err != nil {
			return err
		}
	}
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	events, lost := make(chan struct{}, 1), make(chan struct{})
	go func() { listen(listening, s, events); close(lost) }()
	// The first event may be a message; the loss and the new socket are events
	// too, after which a change is seen again.
	for i := 0; i < 3; {
		if err := address("uplink", fmt.Sprintf("10.77.3.%d/24", i+1), 0); err != nil {
			return err
		}
		select {
		case <-events:
			i++
		case <-ctx.Done():
			return errors.New("no event after messages were lost")
		}
	}
	cancel()
	<-lost
	return nil
}
