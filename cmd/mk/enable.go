package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) enable() *cli.Command {
	return &cli.Command{
		Name: "enable", Usage: "enable an addon", ArgsUsage: "ADDON[:ARGUMENT]...",
		Description: "sudo mk enable dns\nsudo mk enable dns:1.1.1.1,9.9.9.9", UsageText: exitsUsual + ", 4 not ready in time",
		Flags:  []cli.Flag{&cli.StringSliceFlag{Name: "set", Usage: "a value of the addon: `KEY=VALUE`"}},
		Action: func(c *cli.Context) error { return s.setAddons(c, true) },
	}
}

// setAddons enables or disables every addon that is named.
func (s *session) setAddons(c *cli.Context, enable bool) error {
	verb := c.Command.Name
	if c.Args().Len() == 0 {
		p := usage("mk %s: which addon?", verb)
		p.Next = []string{"mk addons"}
		return p
	}
	if err := s.root(verb); err != nil {
		return err
	}
	values := map[string]string{}
	for _, kv := range c.StringSlice("set") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return usage("--set %q is not KEY=VALUE", kv)
		}
		values[k] = v
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	var dry operation.Plan // of all addons: one result
	for _, word := range c.Args().Slice() {
		parts := strings.Split(word, ":")
		o := operation.AddonOptions{Addon: parts[0], Enable: enable, Arguments: parts[1:], Values: values, NoWait: s.global.noWait}
		err := s.open(verb, func(n *operation.Node) error {
			if s.global.dryRun {
				plan, err := n.DryAddon(ctx, o)
				if err != nil {
					return err
				}
				dry.Changes, dry.Then = append(dry.Changes, plan.Changes...), append(dry.Then, plan.Then...)
				return nil
			}
			return n.SetAddon(ctx, o)
		})
		if err != nil {
			return err
		}
		if !s.global.dryRun {
			s.note("%s is %sd", parts[0], verb)
		}
	}
	if s.global.dryRun {
		return s.showPlan(&dry)
	}
	return nil
}
