package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/timer"
	"mk8s.io/mk/sdk/plugin"
)

const (
	// logStreams is how many answers of logs may be under way.
	logStreams = 16
	// followLimit bounds one that is followed, mayEvery how long somebody who
	// may not any more goes on, and lineLimit each part that is not taken.
	followLimit = 24 * time.Hour
	mayEvery    = time.Minute
	lineLimit   = 5 * time.Minute
	// maxLogText is how much of a line is told.
	maxLogText = 64 << 10
)

// logs answers what this node's services have written.
type logs struct {
	now  func() time.Time
	free chan struct{}
	ends <-chan struct{} // closed when the agent does
}

func newLogs(ctx context.Context, now func() time.Time) *logs {
	return &logs{now: now, free: make(chan struct{}, logStreams), ends: ctx.Done()}
}

// written is what services have written.
type written interface {
	Lines() iter.Seq2[logfile.Entry, error]
	Follow(ctx context.Context, show func(logfile.Entry)) error
}

// showLogs streams logs to another control-plane node.
func (s *server) showLogs(w http.ResponseWriter, r *http.Request) {
	may := func(ctx context.Context) error {
		return s.node.with(func(n *operation.Node) error { return membership.Of(n).MayAsk(ctx, s.caller(r)) })
	}
	find := func(q operation.LogQuery) (l written, err error) {
		err = s.node.with(func(n *operation.Node) error {
			l, err = n.Logs(q)
			if unknown, ok := errors.AsType[*operation.UnknownError](err); ok {
				err = plugin.Errorf(plugin.BadArgument, "%s", unknown.Error())
			}
			return err
		})
		return l, err
	}
	if err := s.logs.answer(w, r, may, find); err != nil {
		s.problem(w, r, err)
	}
}

// answer streams what is asked for. An error is one before anything was
// answered; a later one is the last line.
func (l *logs) answer(w http.ResponseWriter, r *http.Request, may func(context.Context) error, find func(operation.LogQuery) (written, error)) error {
	asked, err := readLogs(w, r)
	if err != nil {
		return err
	}
	limit := requestLimit
	if asked.Follow {
		limit = followLimit
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	go func() {
		select {
		case <-l.ends:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := may(ctx); err != nil {
		return err
	}
	select {
	case l.free <- struct{}{}:
		defer func() { <-l.free }()
	default:
		return plugin.Errorf(plugin.NotPossible, "%d others read this node's logs already", logStreams)
	}
	found, err := find(asked)
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Time{}); err != nil { // nothing more comes
		return fmt.Errorf("answer logs: %w", err)
	}
	out := &lineWriter{out: bufio.NewWriterSize(&timely{to: w, control: control, now: l.now}, 32<<10), flush: control.Flush}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if err := l.write(ctx, found, asked.Follow, may, out); err != nil && ctx.Err() == nil {
		_ = out.put(peer.LogLine{Error: err.Error()})
	}
	_ = out.send() // who asked has gone, then
	return nil
}

// readLogs reads what is asked for.
func readLogs(w http.ResponseWriter, r *http.Request) (operation.LogQuery, error) {
	var in peer.Logs
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(data, &in)
	}
	level, ok := logfile.ParseLevel(in.Level)
	if err != nil || !ok && in.Level != "" || in.Since < 0 {
		return operation.LogQuery{}, plugin.Errorf(plugin.BadArgument, "the request cannot be read")
	}
	return operation.LogQuery{Services: in.Services, Some: in.Some, Since: in.Since, Level: level, Follow: in.Follow}, nil
}

// write writes what there is, and what comes.
func (l *logs) write(ctx context.Context, found written, follow bool, may func(context.Context) error, out *lineWriter) error {
	for e, err := range found.Lines() {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case out.bytes > operation.MaxLogs:
			return fmt.Errorf("there is more than %d MiB: a shorter --since, or fewer services", operation.MaxLogs>>20)
		}
		if err := out.entry(e); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	if err := out.send(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go l.watch(ctx, may, cancel)
	err := found.Follow(ctx, func(e logfile.Entry) {
		if err := errors.Join(out.entry(e), out.send()); err != nil {
			cancel(err)
		}
	})
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// watch ends what is followed by somebody who may not any more. Where that
// cannot be known, the API server may be what is looked for.
func (l *logs) watch(ctx context.Context, may func(context.Context) error, end context.CancelCauseFunc) {
	for timer.Wait(ctx, mayEvery) {
		if err := may(ctx); errors.Is(err, membership.NotAllowed) || errors.Is(err, membership.NotPermitted) {
			end(err)
			return
		}
	}
}

// lineWriter writes lines of logs.
type lineWriter struct {
	out   *bufio.Writer
	flush func() error
	bytes int64
}

func (w *lineWriter) entry(e logfile.Entry) error {
	text := e.Text
	if len(text) > maxLogText {
		text = strings.ToValidUTF8(text[:maxLogText], "")
	}
	return w.put(peer.LogLine{Service: e.Service, Time: e.Time, Level: e.Level.String(), Text: text})
}

func (w *lineWriter) put(l peer.LogLine) error {
	data, err := json.Marshal(l)
	if err == nil {
		w.bytes += int64(len(data)) + 1
		_, err = w.out.Write(append(data, '\n'))
	}
	return err
}

// send sends what was written.
func (w *lineWriter) send() error { return errors.Join(w.out.Flush(), w.flush()) }

// timely gives each part that is written its own time.
type timely struct {
	to      io.Writer
	control *http.ResponseController
	now     func() time.Time
}

// Write waits until the other side takes it.
func (t *timely) Write(p []byte) (int, error) {
	if err := t.control.SetWriteDeadline(t.now().Add(lineLimit)); err != nil {
		return 0, err
	}
	return t.to.Write(p)
}
