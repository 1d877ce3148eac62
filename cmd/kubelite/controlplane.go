package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/cli/globalflag"
	"k8s.io/component-base/compatibility"
	"k8s.io/component-base/featuregate"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // the clients' metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // the version as a metric
	"k8s.io/component-base/version/verflag"

	"mk8s.io/mk/cmd/kubelite/lifecycle"
)

// controlPlane is the three components with their options parsed, none running yet.
//
// Upstream's commands are not used as they are: each wants to be the one to catch the process's signals. What they do
// between parsing and running is done here and in the files of the components.
type controlPlane struct {
	apiServer         *apiServer
	controllerManager *controllerManager
	scheduler         *scheduler
}

func newControlPlane(lists [][]string) (*controlPlane, error) {
	// The controller manager is built first: its flags change the default of a feature gate, which panics once the gates
	// are on any flag set.
	cm, err := newControllerManager()
	if err != nil {
		return nil, err
	}
	api, sched := newAPIServer(), newScheduler()

	for _, c := range []struct {
		name  string
		flags *cliflag.NamedFlagSets
		args  []string
	}{
		{"controller-manager", cm.flags, lists[argsControllerManager]},
		{"apiserver", api.flags, lists[argsAPIServer]},
		{"scheduler", sched.opts.Flags, lists[argsScheduler]},
	} {
		if err := parse(c.name, c.flags, c.args); err != nil {
			return nil, err
		}
	}
	if err := setGates(api.opts.GenericServerRunOptions.ComponentGlobalsRegistry, api.opts.Logs); err != nil {
		return nil, err
	}
	api.others = []*startCheck{&cm.check, &sched.check}
	// The API server and the controller manager work with deprecated APIs too and would log their own warnings.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	return &controlPlane{apiServer: api, controllerManager: cm, scheduler: sched}, nil
}

// components returns the three as parts of a group. The controller manager gives up 10 s after its start where no API
// server answers, so it waits for this process's own; the scheduler waits with it to spare the log.
func (p *controlPlane) components() []lifecycle.Component {
	after := func(run func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			if !p.apiServer.awaitReady(ctx) {
				return ctx.Err()
			}
			return run(ctx)
		}
	}
	return []lifecycle.Component{
		{Name: "apiserver", Stage: stageAPIServer, Run: p.apiServer.run},
		{Name: "controller-manager", Stage: stageClients, Run: after(p.controllerManager.run)},
		{Name: "scheduler", Stage: stageClients, Run: after(p.scheduler.run)},
	}
}

// parse gives a component its options the way upstream's command does.
func parse(name string, sections *cliflag.NamedFlagSets, args []string) error {
	verflag.AddFlags(sections.FlagSet("global"))
	globalflag.AddGlobalFlags(sections.FlagSet("global"), "kube-"+name, logs.SkipLoggingConfigurationFlags())
	all := pflag.NewFlagSet(name, pflag.ContinueOnError)
	all.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	all.Usage = func() {}
	for _, section := range sections.FlagSets {
		all.AddFlagSet(section)
	}
	if err := all.Parse(args); err != nil {
		return fmt.Errorf("%s: parse options: %w", name, err)
	}
	if all.NArg() > 0 {
		return fmt.Errorf("%s: takes options only, got %q", name, all.Args())
	}
	return nil
}

// setGates makes the parsed feature gates and logging options the process's.
func setGates(registry compatibility.ComponentGlobalsRegistry, options *logsapi.LoggingConfiguration) error {
	if err := registry.Set(); err != nil {
		return fmt.Errorf("set feature gates: %w", err)
	}
	gate := registry.FeatureGateFor(compatibility.DefaultKubeComponent)
	if err := logsapi.ValidateAndApply(options, utilfeature.DefaultFeatureGate); err != nil {
		return fmt.Errorf("set up logging: %w", err)
	}
	if mutable, ok := gate.(featuregate.MutableFeatureGate); ok {
		mutable.AddMetrics()
	}
	registry.AddMetrics()
	return nil
}
