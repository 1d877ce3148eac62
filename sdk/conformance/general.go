package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mk8s.io/mk/sdk/plugin"
)

func (s *suite) identity() {
	d := s.described
	s.report.Case("identity/complete", func(context.Context) error {
		return errors.Join(
			want(slices.Contains(plugin.Kinds(), d.Identity.Kind), "kind %q is unknown", d.Identity.Kind),
			want(d.Identity.Name != "" && d.Identity.Version != "", "name or version is empty"),
			want(slices.Contains(d.Contracts, plugin.Contract(d.Identity.Kind)), "contracts %v lack %s", d.Contracts, plugin.Contract(d.Identity.Kind)),
			want(len(d.Settings) == 0 || json.Valid(d.Settings), "the settings schema is not JSON"))
	})
	s.running("identity/stays-the-same", func(ctx context.Context, c Instance) error {
		again, err := c.Plugin().Describe(ctx)
		if err != nil {
			return err
		}
		return want(reflect.DeepEqual(again, d), "Describe answers differently after Configure")
	})
	if m := s.target.Manifest; m != nil {
		s.report.Case("identity/manifest", func(context.Context) error {
			return want(same(*m, d), "the manifest differs from Describe:\n%+v\n%+v", *m, d)
		})
	}
}

// same compares what two descriptions say, not how they space it.
func same(a, b plugin.Description) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func (s *suite) lifecycle() {
	s.running("health/healthy-and-unchanging", func(ctx context.Context, c Instance) error {
		return errors.Join(c.Plugin().Health(ctx), c.Plugin().Health(ctx))
	})
	s.running("settings/refuses-what-is-not-JSON", func(ctx context.Context, c Instance) error {
		dir, err := s.target.TempDir()
		if err != nil {
			return err
		}
		err = c.Plugin().Configure(ctx, plugin.Configuration{Settings: []byte("{"), StateDir: dir, ClusterID: "conformance"})
		if len(s.described.Settings) == 0 {
			return nil // a plugin without settings need not read them
		}
		return refused(err, plugin.BadSettings)
	})
	s.running("forget/ten-times", func(ctx context.Context, c Instance) error {
		call := plugin.Call{OperationID: "forget"}
		for range 10 {
			if err := c.Plugin().Forget(ctx, call); err != nil {
				return err
			}
		}
		return nil
	})
	s.running("deadlines/canceled-call-returns", func(ctx context.Context, c Instance) error {
		short, cancel := context.WithCancel(ctx)
		cancel()
		if err := c.Plugin().Health(short); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("a canceled call answered %v", err)
		}
		return c.Plugin().Health(ctx)
	})
	s.running("load/32-calls-at-once", func(ctx context.Context, c Instance) error {
		var wg sync.WaitGroup
		errs := make([]error, 32)
		for i := range errs {
			wg.Go(func() {
				if i%2 == 0 {
					errs[i] = c.Plugin().Health(ctx)
					return
				}
				_, errs[i] = c.Plugin().Describe(ctx)
			})
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	s.running("export/unsupported-where-not-declared", func(ctx context.Context, c Instance) error {
		_, err := c.Exporter().PrepareImport(ctx, plugin.Call{OperationID: "import"})
		if s.described.Exportable {
			return err
		}
		return refused(err, plugin.Unsupported)
	})
	s.running("messages/5-MiB-in", func(ctx context.Context, c Instance) error {
		big := []byte(`{"filler":"` + strings.Repeat("x", 5<<20) + `"}`)
		dir, err := s.target.TempDir()
		if err != nil {
			return err
		}
		// The settings may be refused; the message must arrive.
		err = c.Plugin().Configure(ctx, plugin.Configuration{Settings: big, StateDir: dir, ClusterID: "conformance"})
		if err != nil && strings.Contains(err.Error(), "larger than max") {
			return err
		}
		return c.Plugin().Health(ctx)
	})
}

func (s *suite) process() {
	s.report.Case("process/ends-on-SIGTERM", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, caseTime)
		defer cancel()
		c, stop, err := s.target.Start(ctx)
		if err != nil {
			return err
		}
		defer stop()
		if c.Process == nil {
			return nil
		}
		if err := syscall.Kill(c.Process.Pid(), syscall.SIGTERM); err != nil {
			return err
		}
		short, cancelShort := context.WithTimeout(ctx, 5*time.Second)
		defer cancelShort()
		return until(short, "the end after SIGTERM", c.Process.Exited)
	})
	s.running("process/log-lines", func(ctx context.Context, c Instance) error {
		if c.Process == nil {
			return nil
		}
		if err := c.Plugin().Health(ctx); err != nil {
			return err
		}
		for line := range strings.Lines(c.Process.Log()) {
			if len(line) > 64<<10 {
				return fmt.Errorf("a log line of %d bytes", len(line))
			}
		}
		return nil
	})
}

// until polls until a condition holds.
func until(ctx context.Context, what string, holds func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
