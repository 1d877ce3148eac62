package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// cleanUp removes what runs of flanneld have left in this network namespace: its interfaces (their routes go
// with them), routes through other nodes into the pod network of the subnet file (backend host-gw), firewall
// rules of both kinds, and the subnet file, last, so that a second call can finish what a first one could not.
// It goes on after an error and returns them all. No flanneld may be running.
func cleanUp(ctx context.Context, subnetFile string) error {
	written, err := readSubnetFile(subnetFile)
	errs := []error{err, deleteLinks(), deleteRoutes(written.network, unix.AF_INET), deleteRoutes(written.network6, unix.AF_INET6)}
	for _, protocol := range []iptables.Protocol{iptables.ProtocolIPv4, iptables.ProtocolIPv6} {
		errs = append(errs, deleteRules(protocol))
	}
	errs = append(errs, new(nftables.NFTablesManager).CleanUp(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cleaning up: %w", err)
	}
	if err := os.Remove(subnetFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cleaning up: %w", err)
	}
	return nil
}

// ours tells the interfaces that the backends create: flannel.VNI, flannel-v6.VNI, flannel-wg, flannel-wg-v6.
func ours(link netlink.Link) bool {
	name := link.Attrs().Name
	switch link.Type() {
	case "vxlan":
		return strings.HasPrefix(name, "flannel.") || strings.HasPrefix(name, "flannel-v6.")
	case "wireguard":
		return name == "flannel-wg" || name == "flannel-wg-v6"
	}
	return false
}

// whole lists again while the kernel says that what it lists changed meanwhile.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	all, err := list()
	for again := 0; errors.Is(err, netlink.ErrDumpInterrupted) && again < 20; again++ {
		all, err = list()
	}
	return all, err
}

func deleteLinks() error {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("listing interfaces: %w", err)
	}
	var errs []error
	for _, link := range links {
		if !ours(link) {
			continue
		}
		if err := netlink.LinkDel(link); err != nil {
			errs = append(errs, fmt.Errorf("deleting interface %s: %w", link.Attrs().Name, err))
			continue
		}
		klog.InfoS("deleted interface", "name", link.Attrs().Name)
	}
	return errors.Join(errs...)
}

// deleteRoutes removes routes into network that lead through a gateway, and blackholes. A route without a
// gateway belongs to the node's own bridge.
func deleteRoutes(network netip.Prefix, family int) error {
	if !network.IsValid() {
		return nil
	}
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	var errs []error
	for _, route := range routes {
		if route.Dst == nil || (route.Gw == nil && route.Type != unix.RTN_BLACKHOLE) {
			continue
		}
		address, _ := netip.AddrFromSlice(route.Dst.IP)
		bits, _ := route.Dst.Mask.Size()
		if !network.Contains(address.Unmap()) || bits < network.Bits() {
			continue
		}
		if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("deleting route %s: %w", route.Dst, err))
			continue
		}
		klog.InfoS("deleted route", "to", route.Dst)
	}
	return errors.Join(errs...)
}

// deleteRules removes flannel's two chains and every jump to them. A host without iptables has none.
func deleteRules(protocol iptables.Protocol) error {
	ipt, err := iptables.NewWithProtocol(protocol)
	if err != nil {
		klog.V(1).InfoS("no iptables", "protocol", protocol, "err", err)
		return nil
	}
	var errs []error
	for _, c := range []struct{ table, from, comment, chain string }{
		{"nat", "POSTROUTING", "flanneld masq", "FLANNEL-POSTRTG"},
		{"filter", "FORWARD", "flanneld forward", "FLANNEL-FWD"},
	} {
		exists, err := ipt.ChainExists(c.table, c.chain)
		if err != nil {
			errs = append(errs, fmt.Errorf("asking for chain %s: %w", c.chain, err))
			continue
		}
		if !exists {
			continue
		}
		jump := []string{"-m", "comment", "--comment", c.comment, "-j", c.chain}
		if err := ipt.DeleteIfExists(c.table, c.from, jump...); err != nil {
			errs = append(errs, fmt.Errorf("deleting the jump to chain %s: %w", c.chain, err))
		}
		if err := ipt.ClearAndDeleteChain(c.table, c.chain); err != nil {
			errs = append(errs, fmt.Errorf("deleting chain %s: %w", c.chain, err))
		}
	}
	return errors.Join(errs...)
}
