package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
)

const (
	healthTimeout  = 5 * time.Second
	healthShutdown = 3 * time.Second
)

// serveHealth listens and serves /healthz (this process lives) and /readyz (routes, rules and the subnet
// file are in place) until ctx ends. When it returns an error, nothing is left behind.
func serveHealth(ctx context.Context, wg *sync.WaitGroup, o options, ready *atomic.Bool) error {
	address := net.JoinHostPort(o.healthzIP, strconv.Itoa(o.healthzPort))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening for health checks: %w", err)
	}
	server := &http.Server{Handler: health(ready), ReadHeaderTimeout: healthTimeout, WriteTimeout: healthTimeout}
	wg.Go(func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			klog.ErrorS(err, "serving health checks")
		}
	})
	wg.Go(func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthShutdown)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			klog.ErrorS(err, "ending the server of health checks")
		}
	})
	return nil
}

func health(ready *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "flanneld is running")
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "flanneld is not ready yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "flanneld is ready")
	})
	return mux
}
