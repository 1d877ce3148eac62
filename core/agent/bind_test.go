package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/timer"
)

const elsewhere = "127.0.0.1:25001"

// bound is the agent of a control-plane node that listens elsewhere, what it
// logs, and its root folder.
func bound(t *testing.T) (o Options, said *bytes.Buffer, dir string) {
	t.Helper()
	dir = t.TempDir()
	mk := filepath.Join(dir, "out", "bin", "mk")
	if err := os.MkdirAll(filepath.Dir(mk), 0o755); err != nil { //nolint:gosec // programs
		t.Fatal(err)
	}
	if err := os.WriteFile(mk, nil, 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "mk")
	options := operation.Options{
		Root: dir, Executable: mk, Version: "0.1.0", Verb: "agent", User: "test", Env: func(string) string { return "" },
		Progress: quietly{}, Now: time.Now, Services: &remembered{now: time.Now, since: map[string]time.Time{}},
	}
	n, err := operation.CreateNode(options)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close() //nolint:errcheck // what was written is read below
	record := node.NewRecord("n1", time.Now())
	record.ClusterID, record.Address = node.NewID(), "10.0.0.1"
	if err := n.Root.SaveRecord(record); err != nil {
		t.Fatal(err)
	}
	if err := n.Root.WriteFile("args/"+agentFile, []byte("--bind="+elsewhere+"\n"), n.Root.Public()); err != nil {
		t.Fatal(err)
	}
	said = &bytes.Buffer{}
	o = Options{
		Open: func() (*operation.Node, error) { return operation.OpenNode(options) }, Now: time.Now, Sleep: timer.Wait,
		Log: hclog.New(&hclog.LoggerOptions{Output: said}),
	}
	return o, said, dir
}

// ends waits until ctx is done, which should be soon.
func ends(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	select {
	case <-ctx.Done():
	case <-limit.C:
		t.Errorf("%s: the agent stays where it listens", what)
	}
}

// An edit moves the agent, also one that nobody watched yet.
func TestTheAgentMoves(t *testing.T) {
	t.Parallel()
	o, _, dir := bound(t)
	w := &warm{open: o.Open, now: o.Now}
	defer w.close()
	ends(t, o.moved(t.Context(), w, "0.0.0.0:25000"), "edited before it was watched")
	moved := o.moved(t.Context(), w, elsewhere)
	if moved.Err() != nil {
		t.Error("it moves to where it is")
	}
	if err := os.WriteFile(filepath.Join(dir, "args", agentFile), []byte("--bind=127.0.0.1:25002\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ends(t, moved, "edited")
}

// An agent that cannot watch its args listens all the same, and says that it
// does not follow them.
func TestAnAgentThatCannotWatchListens(t *testing.T) {
	t.Parallel()
	o, said, dir := bound(t)
	w := &warm{open: o.Open, now: o.Now}
	defer w.close()
	if err := os.RemoveAll(filepath.Join(dir, "args")); err != nil {
		t.Fatal(err)
	}
	if ctx := t.Context(); o.moved(ctx, w, elsewhere) != ctx {
		t.Error("something else than its end stops it")
	}
	if got := strings.Count(said.String(), "[ERROR]"); got != 1 {
		t.Errorf("%d errors are logged:\n%s", got, said)
	}
}

// records is an API server with the record of one node. It answers each
// request as the next of says wants, then well.
type records struct {
	says  []int
	saved []byte
}

func (r *records) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	type object = map[string]any
	status, body := http.StatusOK, object{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "node.n1", "namespace": "mk-system", "resourceVersion": "1"},
		"data": object{"record": `{"name":"n1","agentPort":25000}`},
	}
	if q.URL.Path == "/readyz" {
		return
	}
	if len(r.says) > 0 {
		status, r.says = r.says[0], r.says[1:]
	}
	if status != http.StatusOK {
		body = object{"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status, "message": "no", "reason": map[int]string{
			http.StatusConflict: "Conflict", http.StatusForbidden: "Forbidden"}[status]}
	} else if q.Method == http.MethodPut {
		r.saved, _ = io.ReadAll(q.Body)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// The others are told the agent's port until they know it; what is no silence
// is logged, once.
func TestTheOthersAreToldThePort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		says         []int
		pauses, logs int
	}{
		{"at once", nil, 0, 0},
		{"the API server starts", []int{500, 500}, 2, 0},
		{"the record changed meanwhile", []int{200, 409}, 1, 0},
		{"it is forbidden for a while", []int{403, 403, 403, 403}, 2, 1}, // each is asked again at once
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o, said, dir := bound(t)
			api := &records{says: c.says}
			server := httptest.NewServer(api)
			defer server.Close()
			config := fmt.Sprintf(`{"clusters": [{"name": "c", "cluster": {"server": %q}}], "contexts": [{"name": "c", "context": {"cluster": "c"}}], "current-context": "c"}`, server.URL)
			if err := os.WriteFile(filepath.Join(dir, "credentials", "client.config"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			var pauses []time.Duration
			o.Sleep = func(_ context.Context, d time.Duration) bool {
				pauses = append(pauses, d)
				return len(pauses) < 9
			}
			o.tellBind(t.Context())
			if !slices.Equal(pauses, slices.Repeat([]time.Duration{requestRetry}, c.pauses)) || !bytes.Contains(api.saved, []byte(`"agentPort":25001`)) {
				t.Errorf("pauses %v, saved %q", pauses, api.saved)
			}
			if got := strings.Count(said.String(), "[ERROR]"); got != c.logs {
				t.Errorf("%d errors are logged, want %d:\n%s", got, c.logs, said)
			}
		})
	}
}
