// Package conformance tests a plugin against the contracts, from a Go test or
// from a program. It starts nothing on a node and isolates nothing. A plugin
// that passes may still be wrong; one that fails will not work.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/plugin"
)

// Reporter takes the outcome of cases. sdktest.Conformance makes one of
// a *testing.T.
type Reporter interface {
	// Case runs one case; its error is the failure.
	Case(name string, run func(ctx context.Context) error)
}

// Target is a plugin under test.
type Target struct {
	// Start starts a fresh plugin that is not configured yet. It is asked more
	// than once; stop ends it.
	Start func(ctx context.Context) (c Instance, stop func(), err error)
	// Manifest is what Describe must equal; nil where there is none yet.
	Manifest *plugin.Description
	// Settings are handed to Configure; nil means {}.
	Settings []byte
	// TempDir makes a new empty folder.
	TempDir func() (string, error)
}

// Instance is one running plugin.
type Instance struct {
	*client.Client
	// Process is there where the plugin runs as a process.
	Process Process
}

// Process is what the suite must know of one.
type Process interface {
	Pid() int
	Log() string
	Exited() bool
}

// Run runs all cases that fit the target. Cases that a plugin's kind or
// capabilities rule out are not reported.
func Run(ctx context.Context, r Reporter, target Target) error {
	s := &suite{report: r, target: target}
	d, err := s.describe(ctx)
	if err != nil {
		return fmt.Errorf("asking the plugin what it is: %w", err)
	}
	s.described = d
	s.identity()
	s.lifecycle()
	s.process()
	switch d.Identity.Kind {
	case plugin.KindCerts:
		s.certs()
	case plugin.KindTokens:
		s.tokens()
	case plugin.KindAddons:
		s.addons()
	}
	return nil
}

const caseTime = time.Minute

type suite struct {
	report    Reporter
	target    Target
	described plugin.Description
}

func (s *suite) describe(ctx context.Context) (plugin.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, caseTime)
	defer cancel()
	c, stop, err := s.target.Start(ctx)
	if err != nil {
		return plugin.Description{}, err
	}
	defer stop()
	return c.Plugin().Describe(ctx)
}

// running runs a case with a configured plugin of its own.
func (s *suite) running(name string, run func(ctx context.Context, c Instance) error) {
	s.report.Case(name, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, caseTime)
		defer cancel()
		c, stop, err := s.target.Start(ctx)
		if err != nil {
			return fmt.Errorf("starting the plugin: %w", err)
		}
		defer stop()
		dir, err := s.target.TempDir()
		if err != nil {
			return err
		}
		if err := s.configure(ctx, c, dir); err != nil {
			return fmt.Errorf("configuring the plugin: %w", err)
		}
		return run(ctx, c)
	})
}

func (s *suite) configure(ctx context.Context, c Instance, dir string) error {
	settings := s.target.Settings
	if settings == nil {
		settings = []byte("{}")
	}
	return c.Plugin().Configure(ctx, plugin.Configuration{Settings: settings, StateDir: dir, ClusterID: "conformance"})
}

// want turns an expectation that does not hold into an error.
func want(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// refused expects an error with a reason.
func refused(err error, reason plugin.Reason) error {
	if err == nil {
		return fmt.Errorf("was answered, should be refused with %s", string(reason))
	}
	return want(errors.Is(err, reason), "refused with %s (%v), should be %s", string(plugin.ReasonOf(err)), err, string(reason))
}

func (s *suite) has(capability string) bool {
	return slices.Contains(s.described.Capabilities, capability)
}
