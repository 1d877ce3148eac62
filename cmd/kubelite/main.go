// Command kubelite is Kubernetes as one program: the server (API server, controller manager, scheduler, kubelet and
// proxy in one process), the etcd datastore and the work on its files, the draining of a node, and kubectl. Which one it is,
// its name or first argument says.
//
// It decides nothing: every option comes from the args files that it is given. It restarts nothing either: any
// component's failure ends the process with status 1, and whoever started it starts it again.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"mk8s.io/mk/cmd/kubelite/multicall"
)

func main() {
	name, args, err := multicall.Choose(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubelite:", err)
		os.Exit(2)
	}
	os.Exit(run(name, args))
}

func run(name string, args []string) int {
	switch name {
	case "etcd":
		return runEtcd(args)
	case "datastore":
		return runDatastore(args, os.Stdout)
	case "drain":
		return runDrain(os.Stdin, os.Stdout)
	case "kubectl":
		return runKubectl(args)
	case "version":
		return printVersion(os.Stdout)
	default:
		return runServer(args)
	}
}

// untilStopped is the context of a program that ends with its work, or when it is told to.
func untilStopped() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}
