package supervisor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/servicetest"
)

// daemonDir makes the test binary a supervisor of that folder.
const daemonDir = "MK_SUPERVISOR_TEST"

func TestMain(m *testing.M) {
	servicetest.RunChild()
	runStatusOnly()
	if dir := os.Getenv(daemonDir); dir != "" {
		if err := Run(context.Background(), options(dir)); err != nil {
			_, _ = io.WriteString(os.Stderr, "error: "+err.Error()+"\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func options(dir string) Options {
	return Options{
		RunDir: filepath.Join(dir, "run"), StateFile: filepath.Join(dir, "state", "services.json"), LogDir: filepath.Join(dir, "log"),
		Logger:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
		BackoffMin: 300 * time.Millisecond, BackoffMax: time.Second,
	}
}

// inProcess runs the supervisor in the test's own process, under its race
// detector.
func inProcess(t *testing.T, dir string) service.Controller {
	t.Helper()
	opts := options(dir)
	opts.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, opts) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("supervisor: %v", err)
		}
	})
	c := NewClient(opts.RunDir)
	servicetest.Eventually(t, func() bool {
		_, err := c.Status(t.Context())
		return !errors.Is(err, service.ErrNotRunning)
	}, func() string { return "no supervisor answers" })
	return c
}

func TestSuite(t *testing.T) {
	t.Parallel()
	servicetest.Run(t, inProcess)
}
