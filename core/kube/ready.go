package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const readyBodyMost = 64 << 10

// NotReadyError is the answer of an API server that runs and is not ready.
type NotReadyError struct {
	// Status is the HTTP status of /readyz.
	Status int
	// Failing are the names of the checks that fail; empty where the server did not say.
	Failing []string
}

// Error implements error.
func (e *NotReadyError) Error() string {
	if len(e.Failing) == 0 {
		return fmt.Sprintf("the API server is not ready: HTTP status %d", e.Status)
	}
	return "the API server is not ready: " + strings.Join(e.Failing, ", ")
}

// Ready asks once whether the API server answers and is ready. A server that answers "no" is a *NotReadyError.
func (c *Client) Ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath("readyz").String(), nil)
	if err != nil {
		return fmt.Errorf("ask %s for readiness: %w", c.base, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, readyBodyMost))
	if err != nil {
		return fmt.Errorf("ask %s for readiness: %w", c.base, err)
	}
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &NotReadyError{Status: resp.StatusCode, Failing: failingChecks(string(body))}
}

// failingChecks reads the lines "[-]etcd failed: reason withheld" of /readyz.
func failingChecks(body string) []string {
	var failing []string
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "[-]")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, " ")
		if name != "" {
			failing = append(failing, name)
		}
	}
	return failing
}

// WaitReady asks until the API server is ready or the context ends. Readiness cannot be watched, so it is asked for with
// backoff. progress, which may be nil, hears what is waited for whenever that changes.
func (c *Client) WaitReady(ctx context.Context, progress func(string)) error {
	tell := onChange(progress)
	wait := newBackoff()
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := c.Ready(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ended(ctx, "wait for the API server at "+c.Server(), err)
		}
		tell(waitText(err))
		wait.next = min(wait.next, time.Second/2)
		if !wait.pause(ctx) {
			return ended(ctx, "wait for the API server at "+c.Server(), err)
		}
	}
}

func waitText(err error) string {
	if notReady, ok := errors.AsType[*NotReadyError](err); ok {
		return notReady.Error()
	}
	return "waiting for the API server: " + err.Error()
}

// onChange calls progress only with a text that differs from the one before.
func onChange(progress func(string)) func(string) {
	last := ""
	return func(text string) {
		if progress != nil && text != last {
			last = text
			progress(text)
		}
	}
}
