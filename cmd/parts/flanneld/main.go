// Command flanneld gives the nodes of a cluster routes to each other's pods.
//
// It is flannel's own code, with the cluster as its only store of subnets (no etcd of its own) and with the
// backends vxlan, host-gw and wireguard. It annotates its node with its address and backend data, follows the
// annotations of the others, keeps routes, and writes the subnet file. The pod network of the node itself (bridge,
// addresses, CNI configuration) is not its job.
//
// On SIGTERM or SIGINT it ends with status 0 and leaves interface, routes and rules as they are, as upstream
// does: pods of different nodes go on talking while it is restarted. "flanneld --cleanup" removes what it left.
//
// This program exists because upstream's cannot be built from the module proxy: one of its cloud backends needs a
// module that is not served.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/flannel-io/flannel/pkg/version"
	"k8s.io/klog/v2"

	// Backends register themselves when imported.
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	_ "github.com/flannel-io/flannel/pkg/backend/wireguard"
)

func main() {
	os.Exit(command(context.Background(), os.Args[1:], os.LookupEnv))
}

// command runs the program and returns its exit status: 0 after a signal, 2 for wrong arguments, else 1.
func command(ctx context.Context, args []string, env func(string) (string, bool)) int {
	opts, err := parseOptions(args, env, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "flanneld:", err)
		return 2
	}
	if opts.version {
		fmt.Println(version.Version)
		return 0
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer klog.Flush()
	do := run
	if opts.cleanup {
		do = func(ctx context.Context, opts options) error { return cleanUp(ctx, opts.subnetFile) }
	}
	if err := do(ctx, opts); err != nil {
		klog.ErrorS(err, "flanneld failed")
		return 1
	}
	return 0
}
