package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Order returns the names of defs in the order of starting: what is in After
// first, by name where nothing decides. Names in After without definition are
// ignored. A circle is an error that names its members.
func Order(defs []Definition) ([]string, error) {
	after := make(map[string][]string, len(defs))
	for _, d := range defs {
		if _, dup := after[d.Name]; dup {
			return nil, fmt.Errorf("service %q is defined twice", d.Name)
		}
		after[d.Name] = d.After
	}
	var order, rest []string
	for name := range after {
		rest = append(rest, name)
	}
	slices.Sort(rest)
	for len(rest) > 0 {
		i := slices.IndexFunc(rest, func(name string) bool {
			return !slices.ContainsFunc(after[name], func(a string) bool { return slices.Contains(rest, a) })
		})
		if i < 0 {
			return nil, fmt.Errorf("services wait for each other in a circle: %s", strings.Join(rest, ", "))
		}
		order = append(order, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
	return order, nil
}

// InOrder starts services at once, each when those of defs that it comes after
// are there, a patient one when they were begun, which start says. After an
// error those on their way are left as they are, and no further one is begun.
func InOrder(ctx context.Context, defs []Definition, start func(ctx context.Context, d Definition, begun func()) error) error {
	begun, there := map[string]chan struct{}{}, map[string]chan struct{}{}
	for _, d := range defs {
		begun[d.Name], there[d.Name] = make(chan struct{}), make(chan struct{})
	}
	waited := make(chan error, len(defs)) // in vain; whoever they waited for says why
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range defs {
		group.Go(func() error {
			first := there
			if d.Patient {
				first = begun
			}
			for _, before := range d.After {
				if first[before] == nil {
					continue
				}
				select {
				case <-first[before]:
				case <-ctx.Done():
					waited <- fmt.Errorf("start %s after %s: %w", d.Name, before, ctx.Err())
					return nil
				}
			}
			if err := start(ctx, d, func() { close(begun[d.Name]) }); err != nil {
				return err
			}
			close(there[d.Name])
			return nil
		})
	}
	if err := group.Wait(); err != nil || len(waited) == 0 {
		return err
	}
	return <-waited
}

// Select returns the definitions that names mean, in the order of starting;
// all of them without names. Aliases are resolved and doubles dropped. A name
// without definition is ErrUnknown.
func Select(defs []Definition, names []string) ([]Definition, error) {
	order, err := Order(defs)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		name = Alias(name)
		if !slices.Contains(order, name) {
			return nil, fmt.Errorf("%w: %q (there are: %s)", ErrUnknown, name, strings.Join(order, ", "))
		}
		wanted[name] = true
	}
	var out []Definition
	for _, name := range order {
		if len(names) > 0 && !wanted[name] {
			continue
		}
		i := slices.IndexFunc(defs, func(d Definition) bool { return d.Name == name })
		out = append(out, defs[i])
	}
	return out, nil
}
