package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerbs(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(handler("me"))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want, err string }{
		{"get " + server.URL + "/", "me\n", ""},
		{"get " + server.URL + "/delay/1ms", "me\n", ""},
		{"get " + server.URL + "/delay/2h", "", "400"},
		{"get " + server.URL + "/status/503", "", "503"},
		{"get", "", "wrong arguments"},
		{"probe", "", "wrong arguments"},
		{"lookup 127.0.0.1", "127.0.0.1\n", ""},
		{"cat " + file, "text", ""},
		{"cat " + file + "x", "", "no such file"},
		{"sleep 1ms", "", ""},
		{"sleep long", "", "wrong arguments"},
		{"exit 0", "", ""},
		{"exit 7", "", "status 7"},
		{"exit 256", "", "wrong arguments"},
		{"dance", "", `no verb "dance"`},
		{"", "", "wrong arguments"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := command(t.Context(), strings.Fields(c.args), &out)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("the error is %v, want %q", err, c.err)
			}
			if out.String() != c.want {
				t.Errorf("the output is %q, want %q", out.String(), c.want)
			}
		})
	}
}

func TestServeAnswersUntilItIsStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, []string{"-http", "127.0.0.1:0"}, in) }()
	line := make([]byte, 1024)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	_, address, _ := strings.Cut(strings.TrimSpace(string(line[:n])), " serves on ")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/echo", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil || string(body) != "hello" {
		t.Errorf("the echo is %q, %v", body, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("serve ended with %v", err)
	}
}

func TestProbeSaysHowLongItWaited(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(handler("me"))
	t.Cleanup(server.Close)
	for url, want := range map[string]string{server.URL + "/": " 0 failures", server.URL + "/status/503": "0 answers, "} {
		var out bytes.Buffer
		if err := command(t.Context(), []string{"probe", "-for", "100ms", url}, &out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("probe %s: %q, %v, want %q", url, out.String(), err, want)
		}
	}
}
