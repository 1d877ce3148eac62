package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/microk8s"
	"mk8s.io/mk/sdk/plugin"
)

// goodToken is the only one that the node in these tests knows.
const goodToken = "0123456789abcdef0123456789abcdef"

// standHost is a node that answers by the token alone.
type standHost struct {
	mu       sync.Mutex
	imported []byte
}

var _ host = (*standHost)(nil)

func (*standHost) GuestJoin(_ context.Context, _ membership.Caller, j microk8s.Join) (*microk8s.Joined, error) {
	switch {
	case j.Token == "used", j.Token == "unknown":
		return nil, microk8s.InvalidToken(errors.New(j.Token))
	case j.Hostname == "taken":
		return nil, &plugin.Error{Reason: membership.NameTaken, Message: "the name is taken", Next: "mk remove-node taken"}
	case j.Hostname == "unread":
		return nil, &plugin.Error{Reason: plugin.Internal, Message: "open /var/lib/mk/secret: permission denied"}
	case j.Hostname == "broken":
		return nil, errors.New("/var/lib/mk/secret: input/output error")
	case j.Port != "25000":
		return nil, &microk8s.Refusal{Status: microk8s.StatusOtherPort, Message: "the port"}
	}
	return &microk8s.Joined{APIPort: "16443", ControlPlaneNodes: []string{"10.0.0.1"}}, nil
}

func (*standHost) GuestSign(_ context.Context, _ membership.Caller, s microk8s.Sign) (*microk8s.Signed, error) {
	if s.Token != goodToken+microk8s.ProxySuffix {
		return nil, microk8s.InvalidToken(errors.New("used"))
	}
	return &microk8s.Signed{Certificate: "PEM"}, nil
}

func (h *standHost) Configure(ctx context.Context, who membership.Caller, c microk8s.Configure) (map[string]string, error) {
	if err := h.Calls(ctx, who, c.Callback); err != nil {
		return nil, err
	}
	_, err := c.Changes()
	return map[string]string{"result": "ok"}, err
}

func (*standHost) Calls(_ context.Context, _ membership.Caller, token string) error {
	if token != goodToken {
		return microk8s.InvalidToken(errors.New("unknown"))
	}
	return nil
}

func (h *standHost) ImportImages(_ context.Context, archive io.Reader, _ string) error {
	data, err := io.ReadAll(archive)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return membership.ErrNoArchive
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.imported = data
	if bytes.HasPrefix(data, []byte("bad")) {
		return errors.New("import images: unexpected EOF")
	}
	return nil
}

// kept is a log.
type kept struct {
	mu    sync.Mutex
	lines []string
}

// Error keeps a line.
func (k *kept) Error(msg string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines = append(k.lines, fmt.Sprint(append([]any{msg}, args...)...))
}

// guestServer serves MicroK8s' routes as the agent does.
func guestServer(t *testing.T) (*httptest.Server, *standHost, *kept) {
	t.Helper()
	h, log := &standHost{}, &kept{}
	s := &server{log: log, images: newImages(time.Now), queue: newQueue(), trust: &pairs{}}
	mux := s.routes().(*http.ServeMux)
	own := http.NewServeMux()
	g := s.guests()
	g.with = func(do func(host) error) error { return do(h) }
	g.routes(own)
	own.Handle("/", mux)
	srv := httptest.NewUnstartedServer(own)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv, h, log
}

func TestMicroK8sRoutes(t *testing.T) {
	t.Parallel()
	srv, _, _ := guestServer(t)
	join := func(token, host, port, worker string) string {
		return fmt.Sprintf(`{"token":%q,"hostname":%q,"port":%q,"worker":%s}`, token, host, port, worker)
	}
	const post, get = http.MethodPost, http.MethodGet
	for _, c := range []struct {
		method, path, body string
		status             int
		answer             string // the whole body, or a part that ends in …
	}{
		{get, "/health", "", 200, `{"status":"OK"}`},
		{post, "/health", "", 404, ""},
		{post, microk8s.JoinPath, join(goodToken, "w1", "25000", "true"), 200, `{"ca":"","callback_token":"","apiport":"16443",…`},
		{post, microk8s.JoinPath, join("unknown", "w1", "25000", "true"), 500, `{"error":"Invalid token"}`},
		{post, microk8s.JoinPath, join("used", "w1", "25000", "true"), 500, `{"error":"Invalid token"}`},
		{post, microk8s.JoinPath, join(goodToken, "w1", "25001", "true"), 502, `{"error":"The port"}`},
		{post, microk8s.JoinPath, join(goodToken, "taken", "25000", "true"), 500, `{"error":"The name is taken (mk remove-node taken)"}`},
		{post, microk8s.JoinPath, join(goodToken, "broken", "25000", "true"), 500, `{"error":"It could not be done; the log of the node that was asked says why: mk logs mk"}`},
		{post, microk8s.JoinPath, join(goodToken, "unread", "25000", "true"), 500, `{"error":"It could not be done; the log of the node that was asked says why: mk logs mk"}`},
		{post, microk8s.JoinPath, `{"port":25000}`, 400, `{"error":"The request cannot be read"}`},
		{post, microk8s.JoinPath, "", 400, `{"error":"The request cannot be read"}`},
		{post, microk8s.JoinPath, `{"token":"` + strings.Repeat("x", maxBody) + `"}`, 400, `{"error":"The request cannot be read, or is too large"}`},
		{get, microk8s.JoinPath, "", 404, ""},
		{post, microk8s.JoinV1Path, join(goodToken, "w1", "25000", "true"), 501, `{"error":"This cluster gives no node access to its datastore:…`},
		{post, microk8s.JoinV1Path, `nonsense`, 400, `{"error":"The request cannot be read"}`},
		{get, microk8s.JoinV1Path, "", 404, ""},
		{post, microk8s.SignPath, `{"token":"` + goodToken + `-proxy","request":"PEM"}`, 200, `{"certificate":"PEM"}`},
		{post, microk8s.SignPath, `{"token":"` + goodToken + `","request":"PEM"}`, 500, `{"error":"Invalid token"}`},
		{post, microk8s.SignPath, `{"token":1}`, 400, `{"error":"The request cannot be read"}`},
		{get, microk8s.SignPath, "", 404, ""},
		{post, microk8s.ConfigurePath, `{"callback":"` + goodToken + `","service":[{"name":"kubelet","restart":"yes"}]}`, 200, `{"result":"ok"}`},
		{post, microk8s.ConfigurePath, `{"callback":"x","service":[{"name":"kubelet","restart":"yes"}]}`, 500, `{"error":"Invalid token"}`},
		{post, microk8s.ConfigurePath, `{"callback":"` + goodToken + `","service":[{"name":"../x","restart":true}]}`, 500, `{"error":"The service \"../x\" is not restarted for others"}`},
		{post, microk8s.ConfigurePath, `{"callback":"` + goodToken + `","addon":[{"name":"dns","enable":true}]}`, 501, `{"error":"Addons are not enabled on this route:…`},
		{post, microk8s.ConfigurePath, `[]`, 400, `{"error":"The request cannot be read"}`},
		{get, microk8s.ConfigurePath, "", 404, ""},
		{post, microk8s.ImportPath, "archive", 200, `{"status":"OK"}`},
		{post, microk8s.ImportPath, "", 400, `{"error":"There is no archive in the request"}`},
		{post, microk8s.ImportPath, "bad", 500, `{"error":"It could not be done; the log of the node that was asked says why: mk logs mk"}`},
		{get, microk8s.ImportPath, "", 404, ""},
		{post, "/cluster/api/v1.0/upgrade", "{}", 404, `{"error":"Not found"}`},
		{post, "/cluster/api/v2.0/dqlite/remove", "{}", 404, `{"error":"Not found"}`},
		{get, "/cluster/api/v1.0/version", "", 404, `{"error":"Not found"}`},
		{get, "/other", "", 404, `{"error":{"reason":"NOT_FOUND",…`},
	} {
		status, body := ask(t, srv, c.method, c.path, c.body, goodToken)
		head, partly := strings.CutSuffix(c.answer, "…")
		if status != c.status || body != c.answer && (!partly || !strings.HasPrefix(body, head)) {
			t.Errorf("%s %s %.80s: %d %s, want %d %s", c.method, c.path, c.body, status, body, c.status, c.answer)
		}
	}
	if status, body := ask(t, srv, post, microk8s.ImportPath, "archive", "x"); status != 401 || body != `{"error":"Invalid token"}` {
		t.Errorf("images of a stranger: %d %s", status, body)
	}
}

func ask(t *testing.T, srv *httptest.Server, method, path, body, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(microk8s.CallbackHeader, token)
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// What is wrong with a token stands in the log, and nowhere else.
func TestStrangersLearnNothingOfTokens(t *testing.T) {
	t.Parallel()
	srv, _, log := guestServer(t)
	var answers []string
	for _, token := range []string{"used", "unknown"} {
		status, body := ask(t, srv, http.MethodPost, microk8s.JoinPath, `{"token":"`+token+`","hostname":"w","port":"25000","worker":true}`, "")
		answers = append(answers, fmt.Sprint(status, body))
	}
	if answers[0] != answers[1] {
		t.Errorf("a stranger tells them apart: %q", answers)
	}
	if len(log.lines) != 2 || !strings.Contains(log.lines[0], "used") || !strings.Contains(log.lines[1], "unknown") {
		t.Errorf("the log does not: %q", log.lines)
	}
}

// An archive is as long as it is: only the caller is held to 64 KiB before
// anyone knows who it is.
func TestImagesAreStreamed(t *testing.T) {
	t.Parallel()
	srv, h, _ := guestServer(t)
	archive := strings.Repeat("layer", maxBody)
	if status, body := ask(t, srv, http.MethodPost, microk8s.ImportPath, archive, goodToken); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if string(h.imported) != archive {
		t.Errorf("%d bytes of %d arrive", len(h.imported), len(archive))
	}
}
