package kube

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// prematureBody says, as an API server would, that one has not finished starting.
const prematureBody = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","code":503,"reason":"ServiceUnavailable",` +
	`"message":"the API server has not finished starting"}`

// premature tells what an API server refuses from what it refuses for now: one that starts listens before it knows who may
// do what, and forbids everything meanwhile. Such an answer becomes 503 with Retry-After, on which client-go asks again.
type premature struct {
	next   http.RoundTripper
	readyz *url.URL
}

// RoundTrip implements http.RoundTripper.
func (p premature) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := p.next.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusForbidden || r.URL.Path == p.readyz.Path {
		return resp, err
	}
	if !p.ready(r) {
		_ = resp.Body.Close() // nobody reads it
		resp.StatusCode, resp.Status = http.StatusServiceUnavailable, "503 Service Unavailable"
		resp.Header = http.Header{"Retry-After": {"1"}, "Content-Type": {jsonType}}
		resp.ContentLength, resp.Body = int64(len(prematureBody)), io.NopCloser(bytes.NewReader([]byte(prematureBody)))
		return resp, nil
	}
	if r.GetBody == nil && r.Body != nil && r.Body != http.NoBody {
		return resp, nil // it cannot be sent a second time
	}
	// It may have become ready just after it answered. What it refused it did not do.
	_ = resp.Body.Close() // nobody reads it
	again := r.Clone(r.Context())
	if r.GetBody != nil {
		if again.Body, err = r.GetBody(); err != nil {
			return nil, fmt.Errorf("send a request again: %w", err)
		}
	}
	return p.next.RoundTrip(again)
}

// ready asks the server that answered, on the same connection, where it keeps it. Everybody may ask that, so one that forbids
// even it does not know yet who may do what. Where nobody answers, who refused is gone, and another one may be asked.
func (p premature) ready(r *http.Request) bool {
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, p.readyz.String(), nil)
	if err != nil {
		return true
	}
	resp, err := p.next.RoundTrip(ask)
	if err != nil {
		return r.Context().Err() != nil // then what it refused stands
	}
	_ = resp.Body.Close() // the status says it
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized
}
