package main

import (
	"context"

	genericserver "k8s.io/apiserver/pkg/server"
	cliflag "k8s.io/component-base/cli/flag"
	proxyapp "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
)

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
		return cmd.ExecuteContext(ctx)
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
