package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	client, err := newClient(&rest.Config{Host: server.URL}, Options{Version: "1.2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// object is a mapping for answers.
type object = map[string]any

func TestEveryCallEndsWithItsContextWhenTheServerHangs(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stop: // the context of a request whose body was not read does not end with its connection
		}
	})
	t.Cleanup(func() { close(stop) })
	target := ProbeTarget{Version: "v1", Kind: "Pod", Namespace: "a", Name: "b"}
	objects := []Object{mustParse(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")}
	csr := CSR{Name: "a", UID: "u"}
	calls := map[string]func(context.Context) error{
		"ready":       c.Ready,
		"wait ready":  func(ctx context.Context) error { return c.WaitReady(ctx, nil) },
		"wait node":   func(ctx context.Context) error { return c.WaitNode(ctx, "a", time.Time{}, nil) },
		"nodes":       func(ctx context.Context) error { _, err := c.Nodes(ctx); return err },
		"overview":    func(ctx context.Context) error { return c.Overview(ctx, []ProbeTarget{target}).NodesErr },
		"probe":       func(ctx context.Context) error { return c.Probe(ctx, []ProbeTarget{target, target, target})[0].Err },
		"healthy":     func(ctx context.Context) error { return c.WaitHealthy(ctx, []ProbeTarget{target}, nil) },
		"drain":       func(ctx context.Context) error { return c.Drain(ctx, "a", DrainOptions{}, nil) },
		"uncordon":    func(ctx context.Context) error { return c.Uncordon(ctx, "a") },
		"delete node": func(ctx context.Context) error { return c.DeleteNode(ctx, "a") },
		"apply": func(ctx context.Context) error {
			_, err := c.Apply(ctx, ApplyRequest{Inventory: "a", Objects: objects})
			return err
		},
		"delete":      func(ctx context.Context) error { _, err := c.Delete(ctx, "a", DeleteOptions{}); return err },
		"documents":   func(ctx context.Context) error { _, err := c.ListDocuments(ctx, PlainDocument, "a", ""); return err },
		"watch csrs":  func(ctx context.Context) error { return c.WatchCSRs(ctx, func(CSR) {}, nil) },
		"approve":     func(ctx context.Context) error { return c.ApproveCSR(ctx, csr, "x") },
		"certificate": func(ctx context.Context) error { return c.SetCertificate(ctx, csr, []byte("x")) },
		"document":    func(ctx context.Context) error { _, err := c.ReadDocument(ctx, SecretDocument, "a", "b"); return err },
		"watch document": func(ctx context.Context) error {
			return c.WatchDocument(ctx, PlainDocument, "a", "b", func(Document, bool) {}, nil)
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			begun := time.Now()
			err := call(ctx)
			if !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(fmt.Sprint(err), "deadline") {
				t.Fatalf("error %v, want the end of the context", err)
			}
			if took := time.Since(begun); took > 3*time.Second {
				t.Fatalf("took %s", took)
			}
		})
	}
}

func mustParse(t *testing.T, text string) Object {
	t.Helper()
	objects, err := ParseManifests([]byte(text), "f")
	if err != nil {
		t.Fatal(err)
	}
	return objects[0]
}

func TestReadyNamesTheFailingChecks(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("User-Agent"); got != "mk/1.2" {
			t.Errorf("user agent %q", got)
		}
		http.Error(w, "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac/bootstrap-roles failed: not finished\nreadyz check failed", 500)
	})
	var notReady *NotReadyError
	err := c.Ready(t.Context())
	if !errors.As(err, &notReady) || strings.Join(notReady.Failing, " ") != "etcd poststarthook/rbac/bootstrap-roles" {
		t.Fatalf("error %v", err)
	}
}

func TestWaitReadyWaitsThroughFailuresAndSaysWhy(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 4 {
			http.Error(w, "[-]etcd failed: reason withheld", 500)
		}
	})
	var told []string
	if err := c.WaitReady(t.Context(), func(text string) { told = append(told, text) }); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || !strings.Contains(told[0], "etcd") {
		t.Fatalf("progress %q, want one line about etcd", told)
	}
}

func nodeObject(ready string) object {
	return object{"apiVersion": "v1", "kind": "Node", "metadata": object{"name": "a", "resourceVersion": "5"},
		"status": object{"conditions": []object{{"type": "Ready", "status": ready, "reason": "KubeletNotReady", "message": "no CNI"}}}}
}

// TestWaitNodeComesBack: the list fails, the first watch ends at once, the second brings the change.
func TestWaitNodeComesBack(t *testing.T) {
	t.Parallel()
	var lists, watches atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			if lists.Add(1) == 1 {
				answer(w, 500, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500, "message": "boom"})
				return
			}
			answer(w, 200, object{"kind": "NodeList", "apiVersion": "v1", "metadata": object{"resourceVersion": "5"}, "items": []object{nodeObject("False")}})
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if watches.Add(1) == 2 {
			_ = json.NewEncoder(w).Encode(object{"type": "MODIFIED", "object": nodeObject("True")})
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	var mu sync.Mutex
	var told []string
	err := c.WaitNode(t.Context(), "a", time.Time{}, func(text string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, text)
	})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(told, "\n")
	if !strings.Contains(text, "boom") || !strings.Contains(text, "condition Ready is False (KubeletNotReady): no CNI") {
		t.Fatalf("progress %q", told)
	}
}

// A kubelet that starts again finds its node Ready as it left it: that is not
// what was waited for, unless nothing else comes.
func TestWaitNodeWantsAWordSinceTheStart(t *testing.T) {
	t.Parallel()
	began := time.Now()
	told := func(status string, at time.Time) object {
		return object{"kind": "Node", "apiVersion": "v1", "metadata": object{"name": "a"}, "status": object{"conditions": []object{
			{"type": "Ready", "status": status, "lastHeartbeatTime": at.UTC().Format(time.RFC3339)},
		}}}
	}
	later := make(chan object, 2)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			answer(w, 200, object{"kind": "NodeList", "apiVersion": "v1", "metadata": object{"resourceVersion": "5"}, "items": []object{told("True", began.Add(-time.Minute))}})
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for {
			select {
			case o := <-later:
				_ = json.NewEncoder(w).Encode(object{"type": "MODIFIED", "object": o})
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	seen, waited := make(chan string, 10), make(chan error, 1)
	go func() { waited <- c.waitNode(t.Context(), "a", began, time.Minute, func(text string) { seen <- text }) }()
	if text := <-seen; !strings.Contains(text, "has not reported since it started") {
		t.Errorf("heard %q", text)
	}
	later <- told("False", began.Add(time.Second))
	if text := <-seen; !strings.Contains(text, "condition Ready is False") {
		t.Errorf("heard %q", text)
	}
	later <- told("True", began.Add(2*time.Second))
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if err := c.waitNode(t.Context(), "a", began, 50*time.Millisecond, nil); err != nil {
		t.Errorf("one that says no more: %v", err)
	}
	if err := c.WaitNode(t.Context(), "a", began.Add(-time.Minute), nil); err != nil {
		t.Errorf("one that has not started since: %v", err)
	}
}

func TestWaitNodeSaysAtItsEndWhatIsMissing(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		answer(w, 200, object{"kind": "NodeList", "apiVersion": "v1", "metadata": object{"resourceVersion": "5"}, "items": []object{}})
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := c.WaitNode(ctx, "a", time.Time{}, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "has not registered") {
		t.Fatalf("error %v", err)
	}
}

func TestOverviewAsksFewAndDiscoversNothing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	paths := map[string]int{}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths[r.URL.Path]++
		mu.Unlock()
		switch r.URL.Path {
		case "/api/v1/nodes":
			answer(w, 200, object{"kind": "NodeList", "apiVersion": "v1", "metadata": object{}, "items": []object{nodeObject("True")}})
			return
		case "/readyz":
			http.Error(w, "[+]ping ok\n[-]kube-scheduler-started failed: reason withheld", 500)
			return
		}
		answer(w, 200, object{"kind": "DeploymentList", "apiVersion": "apps/v1", "metadata": object{}, "items": []object{
			{"kind": "Deployment", "apiVersion": "apps/v1", "metadata": object{"name": "b", "namespace": "n"}, "spec": object{"replicas": 1},
				"status": object{"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}},
		}})
	})
	var targets []ProbeTarget
	for _, name := range []string{"a", "b", "c"} {
		targets = append(targets, ProbeTarget{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "n", Name: name})
	}
	o := c.Overview(t.Context(), targets)
	if o.NodesErr != nil || len(o.Nodes) != 1 || !o.Nodes[0].Ready {
		t.Fatalf("nodes %+v, %v", o.Nodes, o.NodesErr)
	}
	if o.Probes[0].Exists || !o.Probes[1].Healthy || o.Probes[2].Exists {
		t.Fatalf("probes %+v", o.Probes)
	}
	if o.ReadyErr == nil || !strings.Contains(o.ReadyErr.Error(), "not ready: kube-scheduler-started") {
		t.Errorf("readiness: %v", o.ReadyErr)
	}
	if len(paths) != 3 || paths["/apis/apps/v1/namespaces/n/deployments"] != 1 {
		t.Fatalf("requests %v", paths)
	}
}

// A node is refused when the API server denies something that everybody may. One that has not heard of the removal, or has
// no answer for now, is asked again; one that says anything else, or nothing, is not.
func TestWaitNodeRefused(t *testing.T) {
	t.Parallel()
	const allows, denies = -1, -2
	for name, c := range map[string]struct {
		answers []int // the last one again and again
		letIn   bool
		err     string
	}{
		"let in when it knows": {answers: []int{denies, 500, denies, allows}, letIn: true},
		"never let in":         {answers: []int{denies}, letIn: true, err: "deadline exceeded"},
		"at once":              {answers: []int{denies}},
		"when it knows":        {answers: []int{allows, 500, allows, denies}},
		"never":                {answers: []int{allows}, err: "deadline exceeded"},
		"not to be asked":      {answers: []int{403}, err: "the node n2 is refused"},
		"nobody has the key":   {answers: []int{401}, err: "the node n2 is refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/readyz" {
					return
				}
				review := object{}
				if err := json.NewDecoder(r.Body).Decode(&review); err != nil || r.Method != http.MethodPost || r.URL.Path != "/apis/authorization.k8s.io/v1/subjectaccessreviews" {
					t.Errorf("%s %s: %v", r.Method, r.URL, err)
				}
				if who, _ := review["spec"].(object); who["user"] != "system:node:n2" || fmt.Sprint(who["groups"]) != "[system:nodes system:authenticated]" {
					t.Errorf("asked of %v", who)
				}
				status := c.answers[min(asked, len(c.answers)-1)]
				asked++
				if status < 0 {
					review["status"] = object{"allowed": status == allows, "denied": status == denies}
					answer(w, 201, review)
					return
				}
				answer(w, status, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(status)})
			})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if c.err == "deadline exceeded" {
				ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
			}
			defer cancel()
			err := client.WaitNodeRefused(ctx, "n2", !c.letIn)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

// What is asked within the cluster goes through no proxy.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	c := serve(t, func(http.ResponseWriter, *http.Request) {})
	if c.config.Proxy == nil {
		t.Fatal("client-go takes the environment's")
	}
	if u, err := c.config.Proxy(nil); u != nil || err != nil {
		t.Errorf("%v, %v", u, err)
	}
}

func TestConnectRefusesProgramsForCredentials(t *testing.T) {
	t.Parallel()
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: https://127.0.0.1:1}}]\n" +
		"users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, interactiveMode: Never}}}]\n" +
		"contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if _, err := ConnectFile(file(text), Options{}); err == nil || !strings.Contains(err.Error(), "runs a program") {
		t.Fatalf("error %v", err)
	}
	if _, err := ConnectFile(file("x: ["), Options{}); err == nil {
		t.Fatal("garbage was taken for a kubeconfig")
	}
}

// What the API server could not ask its datastore, and what nobody answered, is
// told apart from what it refuses.
func TestSilent(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{500: true, 503: true, 504: true, 429: true, 403: false, 404: false, 409: false, 422: false} {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" {
				return
			}
			answer(w, status, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": "etcdserver: no leader"})
		})
		if _, err := c.Node(t.Context(), "a"); err == nil || Silent(fmt.Errorf("ask: %w", err)) != want {
			t.Errorf("status %d: %v", status, err)
		}
	}
	gone := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := gone.Node(t.Context(), "a"); !Silent(err) {
		t.Errorf("a connection that breaks off: %v", err)
	}
	half := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"kind":"Node",`))
	})
	if _, err := half.Node(t.Context(), "a"); !Silent(err) {
		t.Errorf("an answer that breaks off: %v", err)
	}
	if Silent(errors.New("another")) || Silent(nil) {
		t.Error("any error is taken for silence")
	}
}

// An API server that starts forbids everything before it knows who may do what, and to say whether it is ready, too; it may
// end again before that.
func TestAServerThatStartsForbidsNothing(t *testing.T) {
	t.Parallel()
	for name, unready := range map[string]func(http.ResponseWriter){
		"it says that it is not ready": func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"it forbids to ask":            func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) },
		"it is gone":                   func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked, ready atomic.Int32
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/readyz" {
					if ready.Add(1) < 2 {
						unready(w)
					}
					return
				}
				if asked.Add(1) < 3 { // the second answer is given just before it becomes ready
					answer(w, 403, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "nodes is forbidden"})
					return
				}
				answer(w, 200, nodeObject("True"))
			})
			if n, err := c.Node(t.Context(), "a"); err != nil || !n.Ready || asked.Load() != 3 {
				t.Errorf("after %d questions: %+v, %v", asked.Load(), n, err)
			}
		})
	}
	never := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			answer(w, 403, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "nodes is forbidden"})
		}
	})
	if _, err := never.Node(t.Context(), "a"); err == nil || Silent(err) || !strings.Contains(err.Error(), "nodes is forbidden") {
		t.Errorf("what is meant: %v", err)
	}
	starts := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		answer(w, 403, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "nodes is forbidden"})
	})
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if _, err := starts.Node(ctx, "a"); !Silent(err) {
		t.Errorf("one that does not become ready: %v", err)
	}
}
