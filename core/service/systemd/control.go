package systemd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/timer"
)

const probeEvery = 50 * time.Millisecond

func (c *Controller) selected(ctx context.Context, names []string) ([]service.Definition, *dbus.Conn, error) {
	defs, err := loadDefinitions(c.opts.StateFile)
	if err == nil {
		defs, err = service.Select(defs, names)
	}
	if err != nil {
		return nil, nil, err
	}
	conn, err := connect(ctx)
	return defs, conn, err
}

// Start implements service.Controller.
func (c *Controller) Start(ctx context.Context, names ...string) error {
	defs, conn, err := c.selected(ctx, names)
	if err != nil {
		return err
	}
	defer conn.Close()
	return service.InOrder(ctx, defs, func(ctx context.Context, d service.Definition, begun func()) error {
		return c.startOne(ctx, conn, d, begun)
	})
}

func (c *Controller) startOne(ctx context.Context, conn *dbus.Conn, d service.Definition, begun func()) error {
	from := logfile.Size(c.log(d.Name))
	before := c.unitStatus(ctx, conn, d.Name)
	if before.State != service.Running {
		// An end of the job that is not "done" is told by the state below:
		// Restart= goes on trying.
		if _, err := c.job(ctx, conn.StartUnitContext, d.Name); err != nil {
			return fmt.Errorf("start %s: %w", d.Name, err)
		}
	}
	begun()
	for {
		st := c.unitStatus(ctx, conn, d.Name)
		failed := st.Restarts
		if st.State == service.Backoff || st.State == service.Failed {
			failed++
		}
		up := st.State == service.Running && d.Ready.Try(ctx) == nil
		switch {
		case up && (d.Ready.Set() || time.Since(st.Since) >= service.Settle):
			return nil
		case ctx.Err() != nil:
			return &service.StartError{Service: d.Name, What: "it is not ready", LastError: logfile.LastError(c.log(d.Name), from), Err: ctx.Err()}
		case st.State == service.Stopped:
			return fmt.Errorf("start %s: it was stopped meanwhile", d.Name)
		case st.State == service.Failed, failed >= service.MaxStartFailures:
			what := fmt.Sprintf("it ended %d times before it was ready (%s)", failed, st.LastExit)
			return &service.StartError{Service: d.Name, What: what, LastError: logfile.LastError(c.log(d.Name), from)}
		}
		timer.Wait(ctx, probeEvery)
	}
}

type jobFunc func(ctx context.Context, name, mode string, ch chan<- string) (int, error)

// job queues a job and waits for its end.
func (c *Controller) job(ctx context.Context, queue jobFunc, name string) (string, error) {
	result := make(chan string, 1)
	if _, err := queue(ctx, c.Unit(name), "replace", result); err != nil {
		return "", err
	}
	select {
	case r := <-result:
		return r, nil
	case <-ctx.Done():
		return "", fmt.Errorf("wait for systemd's job: %w", ctx.Err())
	}
}

// Stop implements service.Controller.
func (c *Controller) Stop(ctx context.Context, names ...string) error {
	defs, conn, err := c.selected(ctx, names)
	if err != nil {
		return err
	}
	defer conn.Close()
	var errs []error
	for _, d := range slices.Backward(defs) {
		if st := c.unitStatus(ctx, conn, d.Name); st.State == service.Stopped {
			continue
		}
		result, err := c.job(ctx, conn.StopUnitContext, d.Name)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("stop %s: %w", d.Name, err))
		case result != "done":
			errs = append(errs, fmt.Errorf("stop %s: systemd's job ended as %q", d.Name, result))
		}
		// Killed after its timeout, a unit is "failed"; it was asked to stop.
		_ = conn.ResetFailedUnitContext(ctx, c.Unit(d.Name))
	}
	return errors.Join(errs...)
}

// StopUnits stops units that others had systemd make, such as the slices of
// pods. One that is not there is no error.
func StopUnits(ctx context.Context, units ...string) error {
	if len(units) == 0 {
		return nil
	}
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var errs []error
	for _, name := range units {
		done := make(chan string, 1)
		if _, err := conn.StopUnitContext(ctx, name, "replace", done); err != nil {
			if !strings.Contains(err.Error(), "not loaded") {
				errs = append(errs, fmt.Errorf("stop %s: %w", name, err))
			}
			continue
		}
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("wait for systemd's job: %w", ctx.Err())
		}
	}
	return errors.Join(errs...)
}

// Restart implements service.Controller.
func (c *Controller) Restart(ctx context.Context, names ...string) error {
	if err := c.Stop(ctx, names...); err != nil {
		return err
	}
	return c.Start(ctx, names...)
}

// Enable implements service.Enabler.
func (c *Controller) Enable(ctx context.Context, names ...string) error {
	return c.unitFiles(ctx, "enable", names, func(conn *dbus.Conn, units []string) error {
		_, _, err := conn.EnableUnitFilesContext(ctx, units, false, false)
		return err
	})
}

// Disable implements service.Enabler.
func (c *Controller) Disable(ctx context.Context, names ...string) error {
	return c.unitFiles(ctx, "disable", names, func(conn *dbus.Conn, units []string) error {
		_, err := conn.DisableUnitFilesContext(ctx, units, false)
		return err
	})
}

// unitFiles changes what systemd starts at boot.
func (c *Controller) unitFiles(ctx context.Context, what string, names []string, change func(*dbus.Conn, []string) error) error {
	defs, conn, err := c.selected(ctx, names)
	if err != nil {
		return err
	}
	defer conn.Close()
	units := make([]string, 0, len(defs))
	for _, d := range defs {
		units = append(units, c.Unit(d.Name))
	}
	if err := change(conn, units); err != nil {
		return fmt.Errorf("%s services: %w", what, err)
	}
	return reload(ctx, conn)
}

func reload(ctx context.Context, conn *dbus.Conn) error {
	if err := conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("reload systemd: %w", err)
	}
	return nil
}

// Status implements service.Controller.
func (c *Controller) Status(ctx context.Context) ([]service.Status, error) {
	defs, err := loadDefinitions(c.opts.StateFile)
	if err != nil {
		return nil, err
	}
	conn, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	out := make([]service.Status, 0, len(defs))
	for _, d := range defs {
		st := c.unitStatus(ctx, conn, d.Name)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("ask systemd for %s: %w", d.Name, ctx.Err())
		}
		if st.State == service.Running && time.Since(st.Since) < time.Minute && d.Ready.Try(ctx) != nil {
			st.State = service.Starting
		}
		if st.State != service.Stopped && st.State != service.Running || st.Restarts > 0 {
			st.LastError = logfile.LastError(st.Log, 0)
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b service.Status) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
