package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"
)

const (
	defaultTimeout = 10 * time.Second
	retryPause     = 200 * time.Millisecond
)

// get prints the body of the answer; a status of 400 or above is an error. With -retry it tries again, each
// time within -timeout, until that much time has passed.
func get(ctx context.Context, args []string, out io.Writer) error {
	fs := flags("get")
	timeout := fs.Duration("timeout", defaultTimeout, "")
	retry := fs.Duration("retry", 0, "")
	if err := fs.Parse(args); err != nil || fs.NArg() != 1 {
		return errUsage
	}
	until := time.Now().Add(*retry)
	for {
		body, err := fetch(ctx, http.DefaultClient, fs.Arg(0), *timeout)
		if err == nil {
			_, err = out.Write(body)
			return err
		}
		if time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}

func fetch(ctx context.Context, client *http.Client, url string, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// A connection of its own for each try: a test that counts answers per pod must see them spread.
	request.Close = true
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", url, err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s answers %s", url, response.Status)
	}
	return body, nil
}

// serviceAccount is where a pod finds what it needs to ask the API.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"

// probe asks until -for has passed, or until it is stopped, and prints how many answers came and how long the
// longest wait for one was, failed tries included. In a pod it trusts the cluster's authority.
func probe(ctx context.Context, args []string, out io.Writer) error {
	fs := flags("probe")
	during := fs.Duration("for", time.Minute, "")
	timeout := fs.Duration("timeout", time.Second, "")
	if err := fs.Parse(args); err != nil || fs.NArg() != 1 {
		return errUsage
	}
	client := &http.Client{}
	if ca, err := os.ReadFile(serviceAccount + "ca.crt"); err == nil {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	}
	ctx, cancel := context.WithTimeout(ctx, *during)
	defer cancel()
	var answers, failures int
	var longest time.Duration
	began := time.Now()
	for ctx.Err() == nil {
		if _, err := fetch(ctx, client, fs.Arg(0), *timeout); err != nil {
			failures++
			continue
		}
		answers++
		now := time.Now()
		longest, began = max(longest, now.Sub(began)), now
		select {
		case <-ctx.Done():
		case <-time.After(retryPause / 4):
		}
	}
	_, err := fmt.Fprintf(out, "%d answers, %d failures, longest wait %s\n", answers, failures, max(longest, time.Since(began)).Round(time.Millisecond))
	return err
}

// send prints the answer to one UDP packet.
func send(ctx context.Context, args []string, out io.Writer) error {
	fs := flags("send")
	timeout := fs.Duration("timeout", defaultTimeout, "")
	if err := fs.Parse(args); err != nil || fs.NArg() != 2 {
		return errUsage
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	connection, err := new(net.Dialer).DialContext(ctx, "udp", fs.Arg(0))
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(*timeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(connection, fs.Arg(1)); err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	n, err := connection.Read(buffer)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", buffer[:n])
	return err
}

// lookup prints what Go's resolver says, a line each.
func lookup(ctx context.Context, verb string, args []string, out io.Writer) error {
	fs := flags(verb)
	timeout := fs.Duration("timeout", defaultTimeout, "")
	if err := fs.Parse(args); err != nil || fs.NArg() != 1 {
		return errUsage
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	resolver := &net.Resolver{PreferGo: true}
	ask := resolver.LookupHost
	if verb == "reverse" {
		ask = resolver.LookupAddr
	}
	answers, err := ask(ctx, fs.Arg(0))
	if err != nil {
		return err
	}
	for _, a := range slices.Sorted(slices.Values(answers)) {
		if _, err := fmt.Fprintln(out, a); err != nil {
			return err
		}
	}
	return nil
}
