package netinfo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	answerTime = 5 * time.Second // for one question to the kernel
	attempts   = 10              // a list that changed while it was read is read again
)

// Default is the node's default address and its link; see State.Default.
func Default(ctx context.Context, named ...string) (netip.Addr, string, error) {
	s, err := Read(ctx)
	if err != nil {
		return netip.Addr{}, "", err
	}
	return s.Default(named...)
}

// Addresses is all of a node's addresses that are fit for a certificate,
// sorted; the links that the user named always count.
func Addresses(ctx context.Context, named ...string) ([]netip.Addr, error) {
	s, err := Read(ctx)
	if err != nil {
		return nil, err
	}
	return s.Choose(named...), nil
}

// Read asks the kernel. It takes milliseconds, and gives up when ctx ends.
func Read(ctx context.Context) (State, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return State{}, fmt.Errorf("read network interfaces: %w", err)
	}
	defer h.Close()
	if err := h.SetSocketTimeout(answerTime); err != nil {
		return State{}, fmt.Errorf("read network interfaces: %w", err)
	}
	for range attempts {
		if err = ctx.Err(); err != nil {
			break
		}
		var s State
		if s, err = read(h); !errors.Is(err, netlink.ErrDumpInterrupted) {
			if err == nil {
				return s, nil
			}
			break
		}
	}
	return State{}, fmt.Errorf("read network interfaces: %w", err)
}

func read(h *netlink.Handle) (State, error) {
	var s State
	links, err := h.LinkList()
	if err != nil {
		return s, err
	}
	for _, l := range links {
		a := l.Attrs()
		s.Links = append(s.Links, Link{
			Index: a.Index, Name: a.Name, Kind: l.Type(), Master: a.MasterIndex,
			Up: a.Flags&net.FlagUp != 0, Loopback: a.Flags&net.FlagLoopback != 0,
		})
	}
	addrs, err := h.AddrList(nil, unix.AF_UNSPEC)
	if err != nil {
		return s, err
	}
	for _, a := range addrs {
		if a.IPNet == nil {
			continue
		}
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			s.Addresses = append(s.Addresses, addressOf(ip.Unmap(), a))
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return s, err
		}
		for _, r := range routes {
			s.Routes = append(s.Routes, defaultsOf(r, family == unix.AF_INET6)...)
		}
	}
	return s, nil
}

// addressOf: for IPv4 the flag that means "temporary" means "a second address
// of the same network", and such an address stays.
func addressOf(ip netip.Addr, a netlink.Addr) Address {
	const passing = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	return Address{
		Addr: ip, Link: a.LinkIndex,
		Passing: ip.Is6() && a.Flags&passing != 0,
		Local:   a.Scope == unix.RT_SCOPE_HOST,
	}
}

func defaultsOf(r netlink.Route, ipv6 bool) []Route {
	if r.Type != unix.RTN_UNICAST {
		return nil
	}
	if r.Dst != nil {
		if ones, _ := r.Dst.Mask.Size(); ones != 0 || !r.Dst.IP.IsUnspecified() {
			return nil
		}
	}
	out := Route{Link: r.LinkIndex, IPv6: ipv6, Metric: r.Priority}
	if ip, ok := netip.AddrFromSlice(r.Src); ok {
		out.Source = ip.Unmap()
	}
	if len(r.MultiPath) == 0 {
		return []Route{out}
	}
	var all []Route
	for _, hop := range r.MultiPath {
		out.Link = hop.LinkIndex
		all = append(all, out)
	}
	return all
}
