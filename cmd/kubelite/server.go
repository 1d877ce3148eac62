package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"

	"mk8s.io/mk/cmd/kubelite/await"
	"mk8s.io/mk/cmd/kubelite/lifecycle"
	"mk8s.io/mk/cmd/kubelite/oneprocess"
)

// The order of the stop: first what asks the API server, then the API server, which ends the requests that it has.
const (
	stageClients = iota
	stageAPIServer
)

// grace bounds each stage; together they stay below the 20 s after which whoever asked may kill the process.
func grace() map[int]time.Duration {
	return map[int]time.Duration{stageClients: 6 * time.Second, stageAPIServer: 11 * time.Second}
}

// The components in the order of the argument lists.
const (
	argsAPIServer = iota
	argsControllerManager
	argsScheduler
	argsKubelet
	argsProxy
	argsCount
)

type serverOptions struct {
	files        [argsCount]string
	controlPlane bool
}

// runServer starts what the options name and returns the process's exit status: 0 after a signal, 1 when a component
// failed, 2 when the options are wrong.
func runServer(args []string) int {
	opts, err := parseServerOptions(args, os.Stderr)
	if err != nil {
		return 2
	}
	lists, err := opts.load()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubelite:", err)
		return 2
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// Every component applies its own logging options, which Unify has made the same.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	logs.InitLogs()
	defer logs.FlushLogs()

	components, err := opts.components(ctx, lists)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubelite:", err)
		return 2
	}
	group := lifecycle.Group{Components: components, Grace: grace(), Log: func(message string) { klog.InfoS("kubelite: " + message) }}
	if err := group.Run(ctx); err != nil {
		logs.FlushLogs()
		fmt.Fprintln(os.Stderr, "kubelite: fatal:", err)
		return 1
	}
	return 0
}

func parseServerOptions(args []string, output io.Writer) (serverOptions, error) {
	var o serverOptions
	flags := flag.NewFlagSet("kubelite", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&o.files[argsAPIServer], "apiserver-args-file", "", "options of the API server, one a line")
	flags.StringVar(&o.files[argsControllerManager], "controller-manager-args-file", "", "options of the controller manager, one a line")
	flags.StringVar(&o.files[argsScheduler], "scheduler-args-file", "", "options of the scheduler, one a line")
	flags.StringVar(&o.files[argsKubelet], "kubelet-args-file", "", "options of the kubelet, one a line")
	flags.StringVar(&o.files[argsProxy], "proxy-args-file", "", "options of the proxy, one a line")
	flags.BoolVar(&o.controlPlane, "start-control-plane", true, "run the API server, controller manager and scheduler too")
	if err := flags.Parse(args); err != nil {
		return o, fmt.Errorf("parse options: %w", err)
	}
	if flags.NArg() > 0 {
		err := fmt.Errorf("kubelite takes no arguments, got %q", flags.Args())
		fmt.Fprintln(output, err)
		return o, err
	}
	return o, nil
}

// load reads the args files of the components that will run; a component without a file has no options.
func (o serverOptions) load() ([][]string, error) {
	lists := make([][]string, argsCount)
	for i, path := range o.files {
		if path == "" || (!o.controlPlane && i < argsKubelet) {
			continue
		}
		list, err := loadArgs(path)
		if err != nil {
			return nil, err
		}
		lists[i] = list
	}
	return oneprocess.Unify(lists...), nil
}

// components builds, and gives their options to, everything that will run. All of it happens here, one after the other,
// because feature gates and logging are variables of the process. asked is the context that ends with the signal.
func (o serverOptions) components(asked context.Context, lists [][]string) ([]lifecycle.Component, error) {
	var components []lifecycle.Component
	if o.controlPlane {
		plane, err := newControlPlane(lists)
		if err != nil {
			return nil, err
		}
		components = plane.components()
	}
	first, err := checkNode(asked, lists[argsKubelet], lists[argsProxy])
	if err != nil {
		return nil, err
	}
	// The container runtime is asked once. On a control-plane node the API server is this process's own, and takes longer
	// than the kubelet has to do without it; on a worker another program leads to it, which listens at once.
	runKubelet, runProxy := await.Before(first.runtime, kubelet(asked, lists[argsKubelet])), proxy(lists[argsProxy])
	if !o.controlPlane {
		runKubelet, runProxy = await.Before(first.server, runKubelet), await.Before(first.server, runProxy)
	}
	return append(components,
		lifecycle.Component{Name: "kubelet", Stage: stageClients, Run: runKubelet},
		lifecycle.Component{Name: "proxy", Stage: stageClients, Run: runProxy},
	), nil
}
