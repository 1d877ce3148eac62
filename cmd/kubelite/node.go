package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/tools/clientcmd"
	cliflag "k8s.io/component-base/cli/flag"
	proxyapp "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	kubeletoptions "k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet/kubeletconfig/configfiles"
	utilfs "k8s.io/kubernetes/pkg/util/filesystem"
)

// signalLag is far more than what may pass between two receivers of one signal.
const signalLag = 200 * time.Millisecond

// needs are what a node's components ask as soon as they run, as addresses for await; empty where that is not known.
type needs struct{ runtime, server string }

// checkNode tells whether the two commands will take these options, so that a misspelt one is told before anything runs
// and not by stopping an API server that has just started. It answers what they will ask.
func checkNode(ctx context.Context, kubeletArgs, proxyArgs []string) (needs, error) {
	config, err := kubeletoptions.NewKubeletConfiguration()
	if err != nil {
		return needs{}, fmt.Errorf("kubelet: make options: %w", err)
	}
	own := kubeletoptions.NewKubeletFlags()
	flags := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	flags.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	flags.Usage = func() {}
	own.AddFlags(flags)
	kubeletoptions.AddKubeletConfigFlags(flags, config)
	kubeletoptions.AddGlobalFlags(flags)
	flags.SetOutput(io.Discard) // deprecated ones are named when the kubelet itself parses them
	if err := flags.Parse(kubeletArgs); err != nil {
		return needs{}, fmt.Errorf("kubelet: parse options: %w", err)
	}
	proxy := proxyapp.NewProxyCommand()
	proxy.SetGlobalNormalizationFunc(cliflag.WordSepNormalizeFunc)
	proxy.SetOut(io.Discard)
	proxy.SetErr(io.Discard)
	if err := proxy.ParseFlags(proxyArgs); err != nil {
		return needs{}, fmt.Errorf("proxy: parse options: %w", err)
	}
	n := needs{runtime: config.ContainerRuntimeEndpoint}
	// What is wrong with the files the kubelet says.
	switch {
	case flags.Changed("container-runtime-endpoint"):
	case own.KubeletDropinConfigDirectory != "":
		n.runtime = "" // any of its files may say
	case own.KubeletConfigFile != "":
		if loader, err := configfiles.NewFsLoader(&utilfs.DefaultFs{}, own.KubeletConfigFile); err == nil {
			if config, err := loader.Load(ctx); err == nil {
				n.runtime = config.ContainerRuntimeEndpoint
			}
		}
	}
	if own.KubeConfig != "" {
		if client, err := clientcmd.BuildConfigFromFlags("", own.KubeConfig); err == nil {
			n.server = client.Host
		}
	}
	return n, nil
}

// kubelet returns upstream's kubelet command with these options as a component. It is the one component that catches
// the process's signals itself, so it is asked to stop only where no signal has come: a second one would end the process
// at once. asked is the context that ends with the signal.
func kubelet(asked context.Context, args []string) func(context.Context) error {
	return func(ctx context.Context) error {
		cmd := kubeletapp.NewKubeletCommand(context.WithoutCancel(ctx))
		cmd.SetArgs(args)
		cmd.SilenceErrors = true
		defer context.AfterFunc(ctx, func() {
			if asked.Err() == nil {
				genericserver.RequestShutdown()
			}
		})()
		err := cmd.ExecuteContext(ctx)
		// It may have been told of the signal, and be gone, an instant before asked ends.
		select {
		case <-asked.Done():
			<-ctx.Done()
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(signalLag):
			return err
		}
	}
}

// proxy returns upstream's proxy command with these options as a component. It cannot be stopped, and has nothing to
// clean up: its rules in the kernel stay, so that services keep working while the process is replaced.
func proxy(args []string) func(context.Context) error {
	return func(ctx context.Context) error {
		cmd := proxyapp.NewProxyCommand()
		cmd.SetGlobalNormalizationFunc(cliflag.WordSepNormalizeFunc)
		cmd.SetArgs(args)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		return abandon(ctx, func() error { return cmd.ExecuteContext(context.WithoutCancel(ctx)) })
	}
}
