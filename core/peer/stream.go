package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"mk8s.io/mk/sdk/plugin"
)

// Send sends what is read, for as long as that takes, and reports whether the
// other side took it. A size of 0 is one that is not known; headers may be nil.
func (c *Client) Send(ctx context.Context, path string, body io.Reader, size int64, headers map[string]string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, body)
	if err != nil {
		return fmt.Errorf("send to %s: %w", c.base+path, err)
	}
	if size > 0 {
		req.ContentLength = size
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := c.patient().Do(req)
	if err != nil {
		return &plugin.Error{Reason: Unreachable, Message: fmt.Sprintf("%s does not take what it is sent: %v", c.base, cause(err))}
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	return c.took(path, resp)
}

// took reads whether a request was taken.
func (c *Client) took(path string, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBodyOfProblem))
	if err != nil {
		return c.brokeOff(err)
	}
	return (&Answer{Status: resp.StatusCode, Body: data}).asError(c.base + path)
}

func (c *Client) brokeOff(err error) error {
	return &plugin.Error{Reason: Unreachable, Message: fmt.Sprintf("the answer of %s broke off: %v", c.base, cause(err))}
}

// patient is a client for which a call lasts as long as its context.
func (c *Client) patient() *http.Client {
	patient := *c.http
	patient.Timeout = 0
	return &patient
}

// Lines sends one request and yields the lines of its answer as they come,
// until it ends or ctx does; a line is valid until the next one. More than most
// bytes are refused; 0 is no bound: the caller keeps nothing. An error is
// yielded once, last.
func (c *Client) Lines(ctx context.Context, path string, in any, most int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		body, err := json.Marshal(in)
		if err != nil {
			yield(nil, fmt.Errorf("ask %s: %w", c.base+path, err))
			return
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
		if err != nil {
			yield(nil, fmt.Errorf("ask %s: %w", c.base+path, err))
			return
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.patient().Do(req)
		if err != nil {
			yield(nil, &plugin.Error{Reason: Unreachable, Message: fmt.Sprintf("%s does not answer: %v", c.base, cause(err))})
			return
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end or given up
		if err := c.took(path, resp); err != nil {
			yield(nil, err)
			return
		}
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, maxAnswerLine)
		got := int64(0)
		for lines.Scan() {
			if got += int64(len(lines.Bytes())) + 1; most > 0 && got > most {
				yield(nil, fmt.Errorf("the answer of %s is larger than %d bytes", c.base+path, most))
				return
			}
			if !yield(lines.Bytes(), nil) {
				return
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			yield(nil, fmt.Errorf("a line of the answer of %s is larger than %d bytes", c.base+path, maxAnswerLine))
		} else if err != nil {
			yield(nil, c.brokeOff(err))
		}
	}
}

// ParseLogLine reads a line of what LogsPath answers. A line that says why
// there are no more is an error.
func ParseLogLine(line []byte) (LogLine, error) {
	var l LogLine
	if err := json.Unmarshal(line, &l); err != nil {
		return LogLine{}, fmt.Errorf("read a line of a log: %w", err)
	}
	if l.Error != "" {
		return LogLine{}, errors.New(clip(l.Error))
	}
	return l, nil
}
