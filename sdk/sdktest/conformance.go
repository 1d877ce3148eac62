package sdktest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"mk8s.io/mk/sdk/conformance"
	"mk8s.io/mk/sdk/launch"
	"mk8s.io/mk/sdk/plugin"
)

// Conformance runs the conformance suite, in memory where make gives a fresh
// value, and as a process where program is named. Either may be empty.
func Conformance(t *testing.T, make func() plugin.Plugin, program string, settings []byte) {
	t.Helper()
	if make != nil {
		t.Run("memory", func(t *testing.T) {
			conform(t, settings, func(context.Context) (conformance.Instance, func(), error) {
				return conformance.Instance{Client: InMemory(t, make())}, func() {}, nil
			})
		})
	}
	if program != "" {
		t.Run("process", func(t *testing.T) {
			conform(t, settings, func(context.Context) (conformance.Instance, func(), error) {
				p, err := launch.Start(program)
				if err != nil {
					return conformance.Instance{}, nil, err
				}
				return conformance.Instance{Client: p.Client, Process: p}, p.Stop, nil
			})
		})
	}
}

func conform(t *testing.T, settings []byte, start func(context.Context) (conformance.Instance, func(), error)) {
	t.Helper()
	root := t.TempDir()
	target := conformance.Target{Settings: settings, Start: start,
		TempDir: func() (string, error) { return os.MkdirTemp(filepath.Clean(root), "state-") }}
	if err := conformance.Run(t.Context(), reporter{t}, target); err != nil {
		t.Fatal(err)
	}
}

type reporter struct{ t *testing.T }

func (r reporter) Case(name string, run func(ctx context.Context) error) {
	r.t.Run(name, func(t *testing.T) {
		if err := run(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
