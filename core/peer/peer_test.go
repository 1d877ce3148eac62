package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/sdk/plugin"
)

func agent(t *testing.T, h http.HandlerFunc) (address, fingerprint string) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "https://"), Fingerprint(s.Certificate())
}

func TestNothingIsSentToAnotherKey(t *testing.T) {
	t.Parallel()
	asked := false
	address, fingerprint := agent(t, func(http.ResponseWriter, *http.Request) { asked = true })
	for _, pin := range []string{strings.Repeat("0", 64), "", fingerprint[:12], fingerprint[:63], fingerprint + "00"} {
		c := New(address, Options{Fingerprint: pin})
		err := c.Call(t.Context(), BeginPath, Begin{Token: "secret"}, nil)
		c.Close()
		if !errors.Is(err, WrongServer) || strings.Contains(err.Error(), "secret") {
			t.Errorf("pin %q: %v", pin, err)
		}
	}
	if asked {
		t.Error("a server with another key was asked")
	}
	c := New(address, Options{Fingerprint: strings.ToUpper(fingerprint)})
	defer c.Close()
	if _, err := c.Raw(t.Context(), Request{Method: http.MethodGet, Path: "/health"}); err != nil || !asked {
		t.Errorf("the pinned key: asked %v, %v", asked, err)
	}
}

func TestAnErrorKeepsItsReason(t *testing.T) {
	t.Parallel()
	body := `{"error":{"reason":"TOKEN_USED","message":"the token was used before","next":"mk add-node"}}`
	address, fingerprint := agent(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(body))
	})
	c := New(address, Options{Fingerprint: fingerprint})
	defer c.Close()
	err := c.Call(t.Context(), BeginPath, Begin{}, nil)
	e, ok := errors.AsType[*plugin.Error](err)
	if !ok || !errors.Is(err, plugin.TokenUsed) || e.Next != "mk add-node" {
		t.Errorf("%#v", err)
	}
	body = "<html>"
	if err := c.Call(t.Context(), BeginPath, Begin{}, nil); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("no error of mk's: %v", err)
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	t.Parallel()
	address, fingerprint := agent(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2000)) })
	c := New(address, Options{Fingerprint: fingerprint})
	defer c.Close()
	if a, err := c.Raw(t.Context(), Request{Method: http.MethodGet, Path: "/", Max: 1999}); err == nil {
		t.Errorf("%d bytes are taken", len(a.Body))
	}
	if _, err := c.Raw(t.Context(), Request{Method: http.MethodGet, Path: "/", Max: 2000}); err != nil {
		t.Error(err)
	}
}

func TestMuchIsSentAsItComes(t *testing.T) {
	t.Parallel()
	got := 0
	address, fingerprint := agent(t, func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if got = len(data); err != nil || got != maxAnswer+1 {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"error":{"reason":"NOT_POSSIBLE","message":"no room"}}`))
		}
	})
	c := New(address, Options{Fingerprint: fingerprint})
	defer c.Close()
	if err := c.Send(t.Context(), ImagesPath, strings.NewReader(strings.Repeat("x", maxAnswer+1)), 0, nil); err != nil {
		t.Errorf("%d bytes arrive: %v", got, err)
	}
	if err := c.Send(t.Context(), ImagesPath, strings.NewReader("x"), 1, nil); !errors.Is(err, plugin.NotPossible) {
		t.Errorf("why it is not taken: %v", err)
	}
}

func TestLinesComeAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	address, fingerprint := agent(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"error":{"reason":"NOT_POSSIBLE","message":"no"}}`))
			return
		}
		_, _ = w.Write([]byte("one\n"))
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = w.Write([]byte("two\n" + strings.Repeat("x", 2000)))
	})
	c := New(address, Options{Fingerprint: fingerprint})
	defer c.Close()
	var got []string
	var last error
	for line, err := range c.Lines(t.Context(), LogsPath, Logs{}, 2000) {
		if last = err; err == nil {
			got = append(got, string(line))
		}
		if len(got) == 1 && err == nil {
			close(more) // the first line is here before the second is written
		}
	}
	if strings.Join(got, " ") != "one two" || last == nil || !strings.Contains(last.Error(), "larger than 2000 bytes") {
		t.Errorf("%q, %v", got, last)
	}
	for _, err := range c.Lines(t.Context(), "/no", Logs{}, 0) {
		if !errors.Is(err, plugin.NotPossible) {
			t.Errorf("what is refused: %v", err)
		}
	}
}

func FuzzParseLogLine(f *testing.F) {
	for _, s := range []string{`{"service":"etcd","time":"2026-11-26T07:00:00Z","level":"error","text":"x"}`, `{"error":"no more"}`, `[]`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if l, err := ParseLogLine(line); err != nil && (l != LogLine{}) {
			t.Errorf("%q is %v, in spite of %v", line, l, err)
		}
	})
}

func TestNobodyThereIsSaidSo(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(nil)
	address := strings.TrimPrefix(s.URL, "https://")
	s.Close()
	c := New(address, Options{Insecure: true})
	defer c.Close()
	if err := c.Call(t.Context(), BeginPath, Begin{}, nil); !errors.Is(err, Unreachable) || !strings.Contains(err.Error(), address) {
		t.Errorf("%v", err)
	}
}

func TestASilenceOfWhoWasMetIsWaitedOut(t *testing.T) {
	t.Parallel()
	asked := 0
	address, fingerprint := agent(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 3 {
			panic(http.ErrAbortHandler) // as one that is killed
		}
		_, _ = w.Write([]byte("{}"))
	})
	var heard []error
	c := New(address, Options{Fingerprint: fingerprint, Patience: time.Minute, Waiting: func(err error) { heard = append(heard, err) }})
	defer c.Close()
	if err := c.Call(t.Context(), BeginPath, Begin{}, nil); err != nil || asked != 3 || len(heard) != 2 {
		t.Errorf("asked %d times, heard %v: %v", asked, heard, err)
	}
	never := New("127.0.0.1:1", Options{Insecure: true, Patience: time.Minute})
	defer never.Close()
	began := time.Now()
	if err := never.Call(t.Context(), BeginPath, Begin{}, nil); !errors.Is(err, Unreachable) || never.Met() || time.Since(began) > 20*time.Second {
		t.Errorf("one that was never met: %v after %s", err, time.Since(began))
	}
}

// Who says when to ask again is asked again then; who does not is not.
func TestWhoIsBusyIsAskedAgain(t *testing.T) {
	t.Parallel()
	asked, after := 0, "1"
	address, fingerprint := agent(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked%2 == 0 {
			_, _ = w.Write([]byte("{}"))
			return
		}
		w.Header().Set("Retry-After", after)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error":{"reason":"BUSY","message":"later"}}`))
	})
	var heard []error
	c := New(address, Options{Fingerprint: fingerprint, Waiting: func(err error) { heard = append(heard, err) }})
	defer c.Close()
	if err := c.Call(t.Context(), BeginPath, Begin{}, nil); err != nil || asked != 2 || len(heard) != 1 || !errors.Is(heard[0], Busy) {
		t.Errorf("asked %d times, heard %v: %v", asked, heard, err)
	}
	after = ""
	if err := c.Call(t.Context(), BeginPath, Begin{}, nil); !errors.Is(err, Busy) || asked != 3 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// Where the other side cannot ask its own, only who has patience asks again.
func TestWhoCannotNowIsAskedAgainByThePatient(t *testing.T) {
	t.Parallel()
	asked := 0
	address, fingerprint := agent(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 3 {
			_, _ = w.Write([]byte("{}"))
			return
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error":{"reason":"NOT_NOW","message":"the API server does not answer"}}`))
	})
	hasty := New(address, Options{Fingerprint: fingerprint})
	defer hasty.Close()
	if err := hasty.Call(t.Context(), CommitPath, Ref{}, nil); !errors.Is(err, NotNow) || asked != 1 {
		t.Errorf("without patience it was asked %d times: %v", asked, err)
	}
	patient := New(address, Options{Fingerprint: fingerprint, Patience: time.Minute})
	defer patient.Close()
	if err := patient.Call(t.Context(), CommitPath, Ref{}, nil); err != nil || asked != 3 {
		t.Errorf("with patience it was asked %d times: %v", asked, err)
	}
}

// A process that hangs while it is asked is found out by its silence, and not by
// the time that an answer may take.
func TestAServerThatHangsIsFoundOut(t *testing.T) {
	t.Parallel()
	asked, over := make(chan struct{}), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(asked); <-over }))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(over) })
	frozen := make(chan struct{})
	c := New(strings.TrimPrefix(s.URL, "https://"), Options{Fingerprint: Fingerprint(s.Certificate()),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return freezes{conn, frozen}, err
		}})
	defer c.Close()
	transport, ok := c.http.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("%T", c.http.Transport)
	}
	transport.HTTP2.SendPingTimeout, transport.HTTP2.PingTimeout = 50*time.Millisecond, 50*time.Millisecond
	go func() { <-asked; close(frozen) }()
	began := time.Now()
	if err := c.Call(t.Context(), BeginPath, Begin{}, nil); !errors.Is(err, Unreachable) || time.Since(began) > callLimit/2 {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// freezes is a connection of whose other end nothing comes any more.
type freezes struct {
	net.Conn

	frozen chan struct{}
}

// Read waits for the end of the connection once it is frozen.
func (f freezes) Read(b []byte) (int, error) {
	for {
		n, err := f.Conn.Read(b)
		select {
		case <-f.frozen:
			if err == nil {
				continue // it is lost
			}
		default:
		}
		return n, err
	}
}

// Whoever waits for an answer until its own time is over hears who did not give it.
func TestATimeThatIsOverNamesWhoIsSilent(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	address, fingerprint := agent(t, func(http.ResponseWriter, *http.Request) { <-over })
	t.Cleanup(func() { close(over) })
	c := New(address, Options{Fingerprint: fingerprint, Patience: time.Minute})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, BeginPath, Begin{}, nil); !errors.Is(err, Unreachable) || !strings.Contains(err.Error(), address) {
		t.Error(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := c.Call(ctx, BeginPath, Begin{}, nil); !errors.Is(err, context.Canceled) || errors.Is(err, Unreachable) {
		t.Errorf("one who was told to stop: %v", err)
	}
}
