package main

import (
	"context"
	"fmt"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	cmfeatures "k8s.io/controller-manager/pkg/features"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
)

// controllerManager is the controller manager; run may be called once, when an API server answers.
type controllerManager struct {
	opts  *options.KubeControllerManagerOptions
	flags *cliflag.NamedFlagSets
	check startCheck
}

func newControllerManager() (*controllerManager, error) {
	opts, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, fmt.Errorf("controller-manager: make options: %w", err)
	}
	sections := opts.Flags(app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	opts.ParsedFlags = &sections
	return &controllerManager{opts: opts, flags: &sections, check: startCheck{component: "kube-controller-manager"}}, nil
}

func (c *controllerManager) run(ctx context.Context) error {
	config, err := c.opts.Config(ctx, app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	if err != nil {
		return err
	}
	c.check.started.Store(true)
	if c.opts.Generic.LeaderElection.LeaderElect &&
		!utilfeature.DefaultFeatureGate.Enabled(cmfeatures.ControllerManagerReleaseLeaderElectionLockOnExit) {
		// Under leader election and without this gate, upstream ends the process with status 1 when its context ends:
		// it expects to work until the process goes. So it is left to do that.
		return abandon(ctx, func() error { return app.Run(context.WithoutCancel(ctx), config.Complete()) })
	}
	return app.Run(ctx, config.Complete())
}

// abandon returns what work returns, or nil as soon as ctx ends; work then goes on until the process ends.
func abandon(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}
