package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	maxBody      = 1 << 20
	readTimeout  = 10 * time.Second
	drainTimeout = 5 * time.Second
	maxDelay     = time.Minute
)

// serve answers until ctx ends, then drains and returns nil. It prints a line once it listens.
//
//	GET  /           the host name
//	GET  /client     the address that the request came from
//	POST /echo       the body
//	GET  /status/N   status N
//	GET  /delay/D    the host name, after D (at most a minute)
//	UDP              the host name, a space, and the packet
func serve(ctx context.Context, args []string, out io.Writer) error {
	fs := flags("serve")
	address := fs.String("http", ":8080", "")
	udp := fs.String("udp", "", "")
	if err := fs.Parse(args); err != nil || fs.NArg() > 0 {
		return errUsage
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(host), ReadHeaderTimeout: readTimeout}
	failed := make(chan error, 2)
	if *udp != "" {
		packets, err := new(net.ListenConfig).ListenPacket(ctx, "udp", *udp)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		defer packets.Close()
		go func() { failed <- echo(packets, host) }()
	}
	go func() { failed <- server.Serve(listener) }()
	if _, err := fmt.Fprintf(out, "%s serves on %s\n", host, listener.Addr()); err != nil {
		return errors.Join(err, server.Close())
	}
	select {
	case err := <-failed:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	return server.Shutdown(drain)
}

func handler(host string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, host) })
	mux.HandleFunc("GET /client", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.RemoteAddr) })
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, http.MaxBytesReader(w, r.Body, maxBody))
	})
	mux.HandleFunc("GET /status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.PathValue("code"))
		if err != nil || code < 200 || code > 599 {
			http.Error(w, "no such status", http.StatusBadRequest)
			return
		}
		w.WriteHeader(code)
	})
	mux.HandleFunc("GET /delay/{duration}", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.PathValue("duration"))
		if err != nil || d < 0 || d > maxDelay {
			http.Error(w, "no such duration", http.StatusBadRequest)
			return
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-r.Context().Done():
		case <-timer.C:
			fmt.Fprintln(w, host)
		}
	})
	return mux
}

// echo answers every packet until the connection is closed.
func echo(packets net.PacketConn, host string) error {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		// A lost answer is what UDP is; the client asks again.
		_, _ = packets.WriteTo(append([]byte(host+" "), buffer[:n]...), from)
	}
}
