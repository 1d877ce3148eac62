package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"mk8s.io/mk/core/service"
)

func (s *supervisor) all() []*unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.units))
}

func (s *supervisor) unit(name string) *unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.units[name]
}

func (s *supervisor) definitions() []service.Definition {
	var defs []service.Definition
	for _, u := range s.all() {
		defs = append(defs, u.record().Definition)
	}
	return defs
}

// children tells the numbers of the processes that are ours to reap.
func (s *supervisor) children() map[int]bool {
	pids := map[int]bool{}
	for _, u := range s.all() {
		pids[u.snapshot().PID] = true
	}
	return pids
}

// save writes down what is known now.
func (s *supervisor) save() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	var records []record
	for _, u := range s.all() {
		records = append(records, u.record())
	}
	slices.SortFunc(records, func(a, b record) int { return cmp.Compare(a.Definition.Name, b.Definition.Name) })
	return saveState(s.conf.StateFile, records)
}

// noteSaved saves where nobody waits for the answer: a full disk must not
// stop the services.
func (s *supervisor) noteSaved() {
	if err := s.save(); err != nil {
		s.conf.Logger.Error("state not saved", "err", err)
	}
}

func (s *supervisor) apply(defs []service.Definition) error {
	merged := map[string]service.Definition{}
	for _, d := range slices.Concat(s.definitions(), defs) {
		merged[d.Name] = d
	}
	if err := service.ValidateAll(defs); err != nil {
		return err
	}
	if err := service.ValidateAll(slices.Collect(maps.Values(merged))); err != nil {
		return err
	}
	for _, d := range defs {
		s.mu.Lock()
		u := s.units[d.Name]
		if u == nil {
			u = newUnit(s.conf, record{Definition: d}, s.noteSaved)
			s.units[d.Name] = u
		}
		s.mu.Unlock()
		u.update(func() { u.def = d })
	}
	return s.save()
}

func (s *supervisor) remove(names []string) error {
	for _, name := range names {
		u := s.unit(name)
		if u == nil {
			continue
		}
		if st := u.snapshot(); st.State != service.Stopped {
			return fmt.Errorf("remove %s: it is %s", name, st.State)
		}
		s.mu.Lock()
		delete(s.units, name)
		s.mu.Unlock()
	}
	return s.save()
}

func (s *supervisor) start(ctx context.Context, names []string) error {
	defs, err := service.Select(s.definitions(), names)
	if err != nil {
		return err
	}
	return service.InOrder(ctx, defs, s.startOne)
}

// startOne starts a service and waits until it is there.
func (s *supervisor) startOne(ctx context.Context, d service.Definition, begun func()) error {
	u := s.unit(d.Name)
	if u == nil {
		return fmt.Errorf("%w: %q was removed meanwhile", service.ErrUnknown, d.Name)
	}
	u.want(true)
	if err := s.save(); err != nil {
		return err
	}
	if err := u.start(ctx, s.life); err != nil {
		return err
	}
	begun()
	return u.awaitStarted(ctx)
}

func (s *supervisor) stop(ctx context.Context, names []string) error {
	defs, err := service.Select(s.definitions(), names)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range slices.Backward(defs) {
		u := s.unit(d.Name)
		if u == nil {
			continue
		}
		u.want(false)
		errs = append(errs, s.save(), u.halt(ctx, errStop))
	}
	return errors.Join(errs...)
}

// haltAll stops everything in order and leaves it wanted.
func (s *supervisor) haltAll(ctx context.Context) error {
	defs, err := service.Select(s.definitions(), nil)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range slices.Backward(defs) {
		if u := s.unit(d.Name); u != nil {
			errs = append(errs, u.halt(ctx, errStop))
		}
	}
	return errors.Join(errs...)
}

func (s *supervisor) restart(ctx context.Context, names []string) error {
	if err := s.stop(ctx, names); err != nil {
		return err
	}
	return s.start(ctx, names)
}

func (s *supervisor) status() []service.Status {
	var out []service.Status
	for _, u := range s.all() {
		out = append(out, u.snapshot())
	}
	slices.SortFunc(out, func(a, b service.Status) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
