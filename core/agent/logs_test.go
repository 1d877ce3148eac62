package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/sdk/plugin"
)

// book is a log that has lines, and gets those that are sent to comes.
type book struct {
	lines int
	long  int // the length of each
	comes chan string
}

func (b book) Lines() iter.Seq2[logfile.Entry, error] {
	return func(yield func(logfile.Entry, error) bool) {
		for i := range b.lines {
			if !yield(logfile.Entry{Service: "etcd", Text: fmt.Sprint(i, strings.Repeat("x", b.long))}, nil) {
				return
			}
		}
		if b.comes == nil && b.long == 0 {
			yield(logfile.Entry{}, errors.New("the disk is gone"))
		}
	}
}

func (b book) Follow(ctx context.Context, show func(logfile.Entry)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case text := <-b.comes:
			show(logfile.Entry{Service: "etcd", Level: logfile.Error, Text: text})
		}
	}
}

// logServer serves a log to whom may lets, until stop.
func logServer(t *testing.T, b book, may error) (srv *httptest.Server, l *logs, stop func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	l = newLogs(ctx, time.Now)
	srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := l.answer(w, r, func(context.Context) error { return may }, func(q operation.LogQuery) (written, error) {
			if len(q.Services) > 0 && q.Services[0] != "etcd" {
				return nil, plugin.Errorf(plugin.BadArgument, "there is no log of it")
			}
			return b, nil
		})
		if err != nil {
			(&server{log: &kept{}}).problem(w, r, err)
		}
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv, l, stop
}

func askLogs(t *testing.T, srv *httptest.Server, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestLogsAreForMembersAndBounded(t *testing.T) {
	t.Parallel()
	srv, l, _ := logServer(t, book{lines: 2}, nil)
	for body, want := range map[string]int{`{"level":"error"}`: 200, `{}`: 200, `{"level":"loud"}`: 400, `{"since":-1}`: 400, `[`: 400, `{"services":["../../etc/passwd"]}`: 400} {
		if resp := askLogs(t, srv, body); resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", body, resp.StatusCode, want)
		}
	}
	data, err := io.ReadAll(askLogs(t, srv, `{}`).Body)
	if want := `{"service":"etcd","level":"info","text":"0"}` + "\n" + `{"service":"etcd","level":"info","text":"1"}` + "\n" + `{"error":"the disk is gone"}` + "\n"; err != nil || string(data) != want {
		t.Errorf("%v\n%s", err, data)
	}
	for range logStreams {
		l.free <- struct{}{}
	}
	if resp := askLogs(t, srv, `{}`); resp.StatusCode != http.StatusConflict {
		t.Errorf("one stream too many: %d", resp.StatusCode)
	}
	stranger, _, _ := logServer(t, book{lines: 2}, plugin.Errorf(membership.NotAllowed, "this is for nodes of the cluster"))
	resp := askLogs(t, stranger, `{}`)
	if data, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusForbidden || strings.Contains(string(data), "etcd") {
		t.Errorf("a stranger: %d %s", resp.StatusCode, data)
	}
	large, _, _ := logServer(t, book{lines: 2000, long: maxLogText}, nil)
	n, tail := 0, ""
	lines := bufio.NewScanner(askLogs(t, large, `{}`).Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		n, tail = n+len(lines.Bytes()), lines.Text()
	}
	if n < operation.MaxLogs || n > operation.MaxLogs+1<<20 || !strings.Contains(tail, "a shorter --since") {
		t.Errorf("%d bytes come, and at last %.100s", n, tail)
	}
}

// A line is there when it is written; with the agent the stream ends.
func TestLogsAreFollowed(t *testing.T) {
	t.Parallel()
	b := book{lines: 1, comes: make(chan string)}
	srv, _, stop := logServer(t, b, nil)
	lines := bufio.NewScanner(askLogs(t, srv, `{"follow":true}`).Body)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Fatalf("%q, %v, want %q", lines.Text(), lines.Err(), want)
		}
	}
	next(`"text":"0"`)
	for _, text := range []string{"one", "two"} {
		b.comes <- text
		next(`"level":"error","text":"` + text)
	}
	stop()
	if lines.Scan() {
		t.Errorf("when the agent ends: %q", lines.Text())
	}
}
