package await

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestListener(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if Listener(short, "https://127.0.0.1:1", "unix://"+socket); short.Err() == nil {
		t.Fatal("nobody listens")
	}
	done := make(chan struct{})
	go func() {
		Listener(t.Context(), "https://127.0.0.1:1", "unix://"+socket)
		close(done)
	}()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	<-done

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	Listener(ended, "unix://"+socket+".none")
	for _, addresses := range [][]string{nil, {""}, {"127.0.0.1:2379"}, {"https://host"}, {"://"}, {"npipe:////./pipe/x"}} {
		Listener(t.Context(), addresses...)
	}
}

func TestBefore(t *testing.T) {
	t.Parallel()
	failed := errors.New("it ran")
	run := func(context.Context) error { return failed }
	socket := filepath.Join(t.TempDir(), "s")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Before("unix://"+socket, run)(ended); err != nil {
		t.Errorf("told to end while it waited: %v", err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Before("unix://"+socket, run)(t.Context()); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}
