package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/recovery"
	"mk8s.io/mk/core/settings"
)

func (s *session) start() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "start this node; the first time, make it",
		Description: "sudo mk start", UsageText: exitsWait,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "disable-at-boot", Usage: "do not start again with the machine"},
			&cli.StringFlag{Name: "auth", Usage: "how kubeconfigs authenticate: x509 or token"},
			&cli.StringFlag{Name: "clock-wait", Usage: "wait this `TIME` for a clock that stands too early (default: the setting clock-wait)"},
			&cli.StringFlag{Name: "name", Usage: "the node's `NAME` (default: the host's)"},
			&cli.StringFlag{Name: "address", Usage: "the `ADDRESS` that other nodes use (default: that of the default route)"},
			&cli.StringFlag{Name: "pod-cidr", Usage: "`CIDR` of pods"},
			&cli.StringFlag{Name: "service-cidr", Usage: "`CIDR` of services"},
			&cli.StringFlag{Name: "cni", Usage: "how pods reach other nodes: vxlan, host-gw or wireguard"},
		},
		Action: func(c *cli.Context) error {
			if err := s.root("start"); err != nil {
				return err
			}
			return s.doStart(c)
		},
	}
}

func (s *session) doStart(c *cli.Context) error {
	o := operation.StartOptions{
		Name: c.String("name"), Address: c.String("address"), PodCIDR: c.String("pod-cidr"), ServiceCIDR: c.String("service-cidr"),
		CNI: c.String("cni"), Auth: c.String("auth"), NoBoot: c.Bool("disable-at-boot"), NoWait: s.global.noWait,
	}
	options, err := s.options("start")
	if err != nil {
		return err
	}
	if c.IsSet("clock-wait") {
		if _, err := settings.ParseDuration(c.String("clock-wait")); err != nil {
			return usage("--clock-wait %q %s", c.String("clock-wait"), err.Error())
		}
		options.Settings = map[string]string{"clock-wait": c.String("clock-wait")}
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	if s.global.dryRun {
		plan, err := operation.PlanStart(ctx, options, o)
		if err != nil {
			return err
		}
		return s.showPlan(plan)
	}
	if err := operation.WaitClock(ctx, options, func(what string) { s.note("%s", what) }); err != nil {
		return err
	}
	if err := operation.Preflight(ctx, options, o); err != nil {
		return err
	}
	n, err := operation.CreateNode(options)
	if err != nil {
		return err
	}
	err = recovery.Of(n).LookFirst(ctx)
	if err == nil {
		err = n.Start(ctx, o)
	}
	if err := joinClose(err, n); err != nil {
		return err
	}
	result := struct {
		Node    string `json:"node"`
		Address string `json:"address"`
		Ready   bool   `json:"ready"`
	}{n.Record.Name, n.Record.Address, !o.NoWait}
	return s.show(result, func(w io.Writer) error {
		state := "is ready"
		if o.NoWait {
			state = "was started"
		}
		_, err := fmt.Fprintf(w, "%s %s at %s\n", result.Node, state, result.Address)
		return err
	})
}
