package change

import (
	"bytes"
	"fmt"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/sdk/changeset"
)

// argument collects an operation on an args file; the file is written once.
func (p *planner) argument(a changeset.Action) error {
	switch a := a.(type) {
	case *changeset.SetArgument:
		f, err := p.argsOf(a.Service)
		if err != nil {
			return err
		}
		return set(f, a)
	case *changeset.RemoveArgument:
		f, err := p.argsOf(a.Service)
		if err != nil {
			return err
		}
		if a.Owner != "" {
			_, err := f.UnsetOwned(a.Owner, a.Option)
			return err
		}
		f.Unset(a.Option)
	}
	return nil
}

func set(f *args.File, a *changeset.SetArgument) error {
	switch {
	case a.Owner != "" && a.Value == nil:
		return f.SetFlagOwned(a.Owner, a.Option)
	case a.Owner != "":
		return f.SetOwned(a.Owner, a.Option, *a.Value)
	case a.Value == nil:
		return f.SetFlag(a.Option)
	}
	return f.Set(a.Option, *a.Value)
}

func (p *planner) argsOf(service string) (*args.File, error) {
	if f, ok := p.args[service]; ok {
		return f, nil
	}
	if !args.ValidService(service) {
		return nil, fmt.Errorf("%q is not a service with arguments", service)
	}
	if p.owners == nil {
		data, err := p.read(ownersFile)
		if err != nil {
			return nil, err
		}
		p.owners = &args.Owners{}
		if err := p.owners.Unmarshal(data); err != nil {
			return nil, fmt.Errorf("%s: %w", p.engine.Root.Path(ownersFile), err)
		}
	}
	data, err := p.read("args/" + service)
	if err != nil {
		return nil, err
	}
	f, err := args.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.engine.Root.Args(service), err)
	}
	if err := f.Own(p.owners, service); err != nil {
		return nil, fmt.Errorf("%s: %w", p.engine.Root.Args(service), err)
	}
	p.args[service] = f
	p.order = append(p.order, service)
	return f, nil
}

// flushArgs adds the args files that were touched, and who owns what. They
// are for root and the admin group, whatever they hold: people put secrets
// there.
func (p *planner) flushArgs() error {
	if len(p.order) == 0 {
		return nil
	}
	for _, service := range p.order {
		if err := p.flushFile("args/"+service, p.args[service].Bytes()); err != nil {
			return err
		}
	}
	owners, err := p.owners.Marshal()
	if err != nil {
		return fmt.Errorf("write %s: %w", ownersFile, err)
	}
	if none, err := (&args.Owners{}).Marshal(); err == nil && bytes.Equal(owners, none) {
		owners = nil
	}
	if err := p.flushFile(ownersFile, owners); err != nil {
		return err
	}
	p.args, p.order, p.owners = map[string]*args.File{}, nil, nil
	return nil
}

// settleArgs writes what is collected before an operation on those files
// themselves.
func (p *planner) settleArgs(a changeset.Action) error {
	var paths []string
	switch a := a.(type) {
	case *changeset.WriteFile:
		paths = []string{a.Path}
	case *changeset.RemovePath:
		paths = []string{a.Path}
	case *changeset.MovePath:
		paths = []string{a.From, a.To}
	}
	for _, name := range paths {
		if within(name, "args") {
			return p.flushArgs()
		}
	}
	return nil
}

// flushFile leaves out a file that would be made only to be empty. One that
// becomes empty stays: people find it there.
func (p *planner) flushFile(name string, data []byte) error {
	if len(data) == 0 {
		had, err := p.look(name)
		if err != nil || had.digest == changeset.Absent {
			return err
		}
		data = []byte{}
	}
	return p.write(File{Path: name, Content: data, Secret: true})
}
