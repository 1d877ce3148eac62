package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/flannel-io/flannel/pkg/backend"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"k8s.io/klog/v2"
)

// stopTimeout bounds how long flannel's goroutines may take to end. Nothing of theirs needs an orderly end.
const stopTimeout = 10 * time.Second

// run keeps the node's routes until ctx ends; that is success, whatever it was doing. An error leaves interface,
// routes and rules as far as they were made: the next run takes them over.
func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ready atomic.Bool
	var wg sync.WaitGroup
	if o.healthzPort > 0 {
		if err := serveHealth(ctx, &wg, o, &ready); err != nil {
			return err
		}
	}
	err := start(ctx, &wg, o, &ready)
	if err == nil {
		<-ctx.Done()
	}
	stopping := ctx.Err() != nil
	cancel()
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(stopTimeout):
		klog.InfoS("some goroutines have not ended", "after", stopTimeout)
	}
	if stopping {
		klog.InfoS("stopped; interface, routes and rules stay")
		return nil
	}
	return err
}

// start does everything up to readiness and leaves the rest to goroutines in wg, which end with ctx.
func start(ctx context.Context, wg *sync.WaitGroup, o options, ready *atomic.Bool) error {
	// flannel's library knows its node from the environment only.
	if err := os.Setenv("NODE_NAME", o.nodeName); err != nil {
		return fmt.Errorf("setting NODE_NAME: %w", err)
	}
	// The library gives up when its node has no pod network yet, which on a new node is the ordinary case.
	if err := waitForPodCIDR(ctx, o); err != nil {
		return err
	}
	sm, err := kube.NewSubnetManager(ctx, o.kubeAPIURL, o.kubeconfig, o.annotationPrefix, o.netConfPath, o.setNodeNetworkUnavailable)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	config, err := sm.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("reading the network configuration: %w", err)
	}
	if err := checkBridgeFilter(config); err != nil {
		return err
	}
	// An address that the administrator has put on the node object wins over the command line.
	if v4, v6 := sm.GetStoredPublicIP(ctx); v4 != "" || v6 != "" {
		o.publicIP, o.publicIPv6 = cmp.Or(v4, o.publicIP), cmp.Or(v6, o.publicIPv6)
	}
	network, err := register(ctx, wg, o, sm, config)
	if err != nil {
		return err
	}
	if err := rules(ctx, o, config, network); err != nil {
		return err
	}
	lease := network.Lease()
	if err := sm.HandleSubnetFile(o.subnetFile, config, o.ipMasq, lease.Subnet, lease.IPv6Subnet, network.MTU()); err != nil {
		return fmt.Errorf("writing the subnet file %s: %w", o.subnetFile, err)
	}
	wg.Go(func() { network.Run(ctx) })
	ready.Store(true)
	klog.InfoS("ready", "backend", config.BackendType, "subnet", lease.Subnet, "subnetV6", lease.IPv6Subnet, "mtu", network.MTU())
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		klog.ErrorS(err, "telling systemd that flanneld is ready")
	}
	if err := sm.CompleteLease(ctx, lease, wg); err != nil {
		// Routes work without the condition; upstream goes on, too.
		klog.ErrorS(err, "setting the node's condition NetworkUnavailable")
	}
	return nil
}

// register creates the backend's device, annotates the node with it and returns the running network's handle.
func register(ctx context.Context, wg *sync.WaitGroup, o options, sm subnet.Manager, config *subnet.Config) (backend.Network, error) {
	iface, err := externalInterface(o, config)
	if err != nil {
		return nil, err
	}
	be, err := backend.NewManager(ctx, sm, iface).GetBackend(config.BackendType)
	if err != nil {
		return nil, fmt.Errorf("finding backend %q (there are vxlan, host-gw and wireguard): %w", config.BackendType, err)
	}
	network, err := be.RegisterNetwork(ctx, wg, config)
	if err != nil {
		return nil, fmt.Errorf("registering the network with backend %q: %w", config.BackendType, err)
	}
	return network, nil
}

// rules brings forwarding and masquerading rules in place, and removes those of the other kind of firewall.
func rules(ctx context.Context, o options, config *subnet.Config, network backend.Network) error {
	var wanted, other trafficmngr.TrafficManager = &iptables.IPTablesManager{}, &nftables.NFTablesManager{}
	if config.EnableNFTables {
		wanted, other = other, wanted
	}
	if err := other.CleanUp(ctx); err != nil {
		// A host that lacks the other kind's program has none of its rules.
		klog.ErrorS(err, "removing rules of the firewall not in use")
	}
	if err := wanted.Init(ctx); err != nil {
		return fmt.Errorf("preparing the firewall: %w", err)
	}
	if o.ipMasq {
		p, err := readSubnetFile(o.subnetFile)
		if err != nil {
			klog.ErrorS(err, "old masquerading rules may stay")
		}
		err = wanted.SetupAndEnsureMasqRules(ctx,
			config.Network, toIP4Net(p.subnet), toIP4Net(p.network),
			config.IPv6Network, toIP6Net(p.subnet6), toIP6Net(p.network6),
			network.Lease(), o.iptablesResyncSeconds, o.ipMasqNoFullyRandom)
		if err != nil {
			return fmt.Errorf("setting up masquerading: %w", err)
		}
	}
	if o.forwardRules {
		wanted.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, o.iptablesResyncSeconds)
	}
	if o.blackholeRoute {
		return blackhole(config, network)
	}
	return nil
}

// blackhole keeps packets for addresses of this node's pod network that no pod has from leaving the node.
func blackhole(config *subnet.Config, network backend.Network) error {
	lease := network.Lease()
	if config.EnableIPv4 {
		if err := ip.AddBlackholeV4Route(lease.Subnet.ToIPNet()); err != nil {
			return fmt.Errorf("adding the blackhole route for %s: %w", lease.Subnet, err)
		}
	}
	if config.EnableIPv6 {
		if err := ip.AddBlackholeV6Route(lease.IPv6Subnet.ToIPNet()); err != nil {
			return fmt.Errorf("adding the blackhole route for %s: %w", lease.IPv6Subnet, err)
		}
	}
	return nil
}

// checkBridgeFilter refuses a host where bridged packets pass by iptables: services would fail between pods of
// one node, and nothing else would say why.
func checkBridgeFilter(config *subnet.Config) error {
	if config.EnableNFTables {
		return nil
	}
	for path, wanted := range map[string]bool{
		"/proc/sys/net/bridge/bridge-nf-call-iptables":  config.EnableIPv4,
		"/proc/sys/net/bridge/bridge-nf-call-ip6tables": config.EnableIPv6,
	} {
		if !wanted {
			continue
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is missing: load the kernel module br_netfilter", path)
		}
	}
	return nil
}
