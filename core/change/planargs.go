package change

import (
	"errors"
	"fmt"
	"io/fs"

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
		f.secret = f.secret || a.Secret
		return set(f.file, a)
	case *changeset.RemoveArgument:
		f, err := p.argsOf(a.Service)
		if err != nil {
			return err
		}
		if a.Owner != "" {
			_, err := f.file.UnsetOwned(a.Owner, a.Option)
			return err
		}
		f.file.Unset(a.Option)
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

func (p *planner) argsOf(service string) (*argsFile, error) {
	if f, ok := p.args[service]; ok {
		return f, nil
	}
	if !args.ValidService(service) {
		return nil, fmt.Errorf("%q is not a service with arguments", service)
	}
	if p.owners == nil {
		data, err := p.engine.Root.ReadFile(ownersFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		p.owners = &args.Owners{}
		if len(data) > 0 {
			if err := p.owners.Unmarshal(data); err != nil {
				return nil, fmt.Errorf("%s: %w", p.engine.Root.Path(ownersFile), err)
			}
		}
	}
	data, err := p.engine.Root.ReadFile("args/" + service)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	parsed, err := args.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.engine.Root.Args(service), err)
	}
	if err := parsed.Own(p.owners, service); err != nil {
		return nil, fmt.Errorf("%s: %w", p.engine.Root.Args(service), err)
	}
	f := &argsFile{file: parsed}
	p.args[service] = f
	p.order = append(p.order, service)
	return f, nil
}

// flushArgs adds the args files that were touched, and who owns what.
func (p *planner) flushArgs() error {
	for _, service := range p.order {
		f := p.args[service]
		if err := p.write(File{Path: "args/" + service, Content: f.file.Bytes(), Secret: true}); err != nil {
			return err
		}
	}
	if p.owners != nil && len(p.order) > 0 {
		data, err := p.owners.Marshal()
		if err != nil {
			return fmt.Errorf("write %s: %w", ownersFile, err)
		}
		if err := p.write(File{Path: ownersFile, Content: data, Secret: true}); err != nil {
			return err
		}
	}
	p.args, p.order, p.owners = map[string]*argsFile{}, nil, nil
	return nil
}
