package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// readyz asks the node's API server whether it is ready.
func (n *benchNode) readyz() func(context.Context) bool {
	ask := n.asker("/readyz")
	return func(ctx context.Context) bool {
		status, _ := ask(ctx)
		return status == http.StatusOK
	}
}

// asker asks the node's API server as its admin, whose certificate is read
// when there is somebody to talk to. Status 0 means that nobody answered.
func (n *benchNode) asker(path string) func(context.Context) (status int, body []byte) {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: n.dial,
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // its authority is made while we wait
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				pair, err := tls.LoadX509KeyPair(filepath.Join(n.Root, "certs/client.crt"), filepath.Join(n.Root, "certs/client.key"))
				return &pair, err
			},
		},
	}}
	return func(ctx context.Context) (int, []byte) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://127.0.0.1:16443"+path, nil)
		if err != nil {
			return 0, nil
		}
		res, err := client.Do(req)
		if err != nil {
			return 0, nil
		}
		defer res.Body.Close() //nolint:errcheck // only read
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return 0, nil
		}
		return res.StatusCode, body
	}
}

// dial dials from inside the machine.
func (n *benchNode) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return n.dialFrom(ctx, nil, network, address)
}

// dialFrom dials from inside the machine, and from one of its addresses: a
// socket belongs to the namespace in which its thread made it.
func (n *benchNode) dialFrom(ctx context.Context, from net.Addr, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer home.Close() //nolint:errcheck // only read
	there, err := os.Open("/run/netns/" + n.Name)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer there.Close() //nolint:errcheck // only read
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	conn, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, network, address)
	// A thread that cannot go home stays locked, and ends with its goroutine.
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return conn, err
}
