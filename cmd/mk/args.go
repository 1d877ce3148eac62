package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/service"
)

func (s *session) argsVerbs() *cli.Command {
	where := func() []cli.Flag {
		return []cli.Flag{
			&cli.BoolFlag{Name: "all-nodes", Usage: "on every node, also on those that join later"},
			&cli.StringFlag{Name: "node", Usage: "on another `NODE`"},
		}
	}
	change := func() []cli.Flag {
		return append(where(), &cli.BoolFlag{Name: "local", Usage: "here, whatever the cluster wants; shown as drift"})
	}
	return &cli.Command{
		Name: "args", Aliases: []string{"arg"}, Usage: "list, get, set and unset arguments of services",
		Description: "mk args list kubelet\nsudo mk args set kubelet max-pods=200", UsageText: exitsFar,
		Action: s.listArgs,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list a service's arguments", ArgsUsage: "[SERVICE]", Description: "mk args list kubelet\nsudo mk args list kubelet --all-nodes", UsageText: exitsFar, Flags: where(), Action: s.listArgs},
			{Name: "get", Usage: "print an argument's value", ArgsUsage: "SERVICE OPTION", Description: "mk args get kubelet max-pods", UsageText: exitsRead, Action: s.getArg},
			{Name: "set", Usage: "set an argument and restart its service", ArgsUsage: "SERVICE OPTION[=VALUE]",
				Description: "sudo mk args set kubelet max-pods=200\nsudo mk args set kubelet max-pods=200 --all-nodes", UsageText: exitsWait + exitsSome, Flags: change(),
				Action: func(c *cli.Context) error { return s.changeArg(c, true) }},
			{Name: "unset", Usage: "remove an argument, or take back what the cluster wants of it", ArgsUsage: "SERVICE OPTION",
				Description: "sudo mk args unset kubelet max-pods\nsudo mk args unset kubelet max-pods --all-nodes", UsageText: exitsWait + exitsSome, Flags: change(),
				Action: func(c *cli.Context) error { return s.changeArg(c, false) }},
		},
	}
}

func (s *session) listArgs(c *cli.Context) error {
	where, err := whereOf(c)
	if err != nil {
		return err
	}
	return s.open("args", func(n *operation.Node) error {
		services := c.Args().Slice()
		for _, name := range services {
			if _, err := loadArgs(n, name); err != nil {
				return err
			}
		}
		if len(services) == 0 {
			services = n.ArgumentFiles()
		}
		if where.Far() {
			if err := s.root("args list"); err != nil { // another node is asked
				return err
			}
			return lookFar(s, c, n, where, operation.LookArguments, services, "ARGUMENT", func(all []operation.Argument) []string {
				rows := make([]string, 0, len(all))
				for _, a := range all {
					rows = append(rows, argumentText(a, true))
				}
				return rows
			})
		}
		out, err := n.Arguments(services)
		if err != nil {
			return err
		}
		return s.show(out, func(w io.Writer) error {
			for _, a := range out {
				fmt.Fprintln(w, argumentText(a, len(services) > 1))
			}
			return nil
		})
	})
}

func argumentText(a operation.Argument, service bool) string {
	line := "--" + a.Option
	if a.Value != "" {
		line += "=" + a.Value
	}
	if service {
		line = a.Service + " " + line
	}
	return line
}

func loadArgs(n *operation.Node, service string) (*args.File, error) {
	if !args.ValidService(service) {
		return nil, unknown("service with arguments", service, args.Services(), "mk args list")
	}
	return args.Load(n.Root.Args(service))
}

func (s *session) getArg(c *cli.Context) error {
	if c.Args().Len() != 2 {
		return usage("mk args get needs a service and an option")
	}
	return s.open("args", func(n *operation.Node) error {
		f, err := loadArgs(n, c.Args().Get(0))
		if err != nil {
			return err
		}
		name := strings.TrimLeft(c.Args().Get(1), "-")
		v, ok := f.Get(name)
		if !ok {
			return &problem{Reason: "NOT_SET", Message: fmt.Sprintf("%s has no argument --%s", c.Args().Get(0), name), exit: exitFailed}
		}
		return s.show(operation.Argument{Service: c.Args().Get(0), Option: name, Value: v}, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, v)
			return err
		})
	})
}

func (s *session) changeArg(c *cli.Context, set bool) error {
	if c.Args().Len() != 2 {
		return usage("mk args %s needs a service and an option", c.Command.Name)
	}
	if err := s.root("args " + c.Command.Name); err != nil {
		return err
	}
	file, word := c.Args().Get(0), strings.TrimLeft(c.Args().Get(1), "-")
	name, value, hasValue := strings.Cut(word, "=")
	if err := args.CheckName(name); err != nil {
		return usage("%s", err.Error())
	}
	if !set && hasValue {
		return usage("mk args unset takes no value")
	}
	where, err := whereOf(c)
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	return s.open("args", func(n *operation.Node) error {
		if _, err := loadArgs(n, file); err != nil {
			return err
		}
		o := operation.ArgumentOptions{Service: file, Option: name, Unset: !set, Local: where.Local}
		if hasValue {
			o.Value = &value
		}
		if where.Far() {
			what := "set"
			if !set {
				what = "unset"
			}
			return s.far(c, n, where, what+" "+file+" --"+name, func(ctx context.Context) (int, error) { return n.WishArgument(ctx, o, where) })
		}
		if s.global.dryRun {
			plan, err := n.DryArgument(ctx, o)
			if err != nil {
				return err
			}
			return s.showPlan(plan)
		}
		number, err := n.SetArgument(ctx, o)
		if err != nil {
			return notSet(ctx, n, o, err)
		}
		if err := s.well(ctx, n, number); err != nil {
			return err
		}
		return s.show(setArgument{number > 0, number}, func(w io.Writer) error {
			if number > 0 {
				return nil
			}
			_, err := fmt.Fprintf(w, "%s --%s is so already: nothing was changed\n", file, name)
			return err
		})
	})
}

// setArgument is what became of an argument.
type setArgument struct {
	Changed bool `json:"changed"`
	Change  int  `json:"change,omitempty"` // its number
}

// notSet says of an argument that a service does not come up with whether it
// was taken back.
func notSet(ctx context.Context, n *operation.Node, o operation.ArgumentOptions, err error) error {
	if _, ok := errors.AsType[*service.StartError](err); !ok {
		return err
	}
	p := explain(ctx, err)
	p.Changed = true
	if plan, err := n.DryArgument(ctx, o); err == nil && len(plan.Changes) > 0 {
		p.Changed, p.state = false, "the argument was taken back"
	}
	return p
}
