package removed

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"mk8s.io/mk/core/revoked"
)

func allowAll(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionAllow, "", nil
}

func names(list ...string) *corev1.ConfigMap {
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: revoked.Namespace, Name: revoked.Name}, Data: map[string]string{}}
	for _, n := range list {
		c.Data[n] = ""
	}
	return c
}

// What nobody has removed another one decides; of a node that was removed each
// program is denied everything, and of all nodes before the list is known.
func TestAuthorize(t *testing.T) {
	t.Parallel()
	nodes := map[string]*user.DefaultInfo{
		"kubelet":  {Name: "system:node:n2", Groups: []string{"system:nodes"}},
		"agent":    {Name: "mk:node:n2", Groups: []string{"mk:nodes"}},
		"flanneld": {Name: "mk:flanneld:n2", Groups: []string{"mk:flanneld"}},
		"proxy":    {Name: "system:kube-proxy", Groups: []string{"system:authenticated", "mk:proxy:n2"}},
	}
	others := map[string]user.Info{
		"a person": &user.DefaultInfo{Name: "n2"}, "an administrator": &user.DefaultInfo{Name: "admin", Groups: []string{"system:masters"}},
		"a pod": &user.DefaultInfo{Name: "system:serviceaccount:n2:n2"}, "a proxy by token": &user.DefaultInfo{Name: "system:kube-proxy"},
		"nobody": nil,
	}
	ready := make(chan struct{})
	a := Before(authorizer.AuthorizerFunc(allowAll), ready)
	a.patience = time.Millisecond
	ask := func(who user.Info) (authorizer.Decision, string) {
		t.Helper()
		decision, reason, err := a.Authorize(t.Context(), authorizer.AttributesRecord{User: who, Verb: "get", Path: "/version"})
		if err != nil {
			t.Error(err)
		}
		return decision, reason
	}
	checkReady := func(when string) {
		t.Helper()
		if got, _, _ := a.Authorize(t.Context(), authorizer.AttributesRecord{User: nodes["agent"], Verb: "get", Path: "/readyz"}); got != authorizer.DecisionAllow {
			t.Errorf("%s, whether it is ready: %v", when, got)
		}
		like := authorizer.AttributesRecord{User: nodes["agent"], Verb: "get", Path: "/readyz", ResourceRequest: true}
		if got, _, _ := a.Authorize(t.Context(), like); got != authorizer.DecisionDeny {
			t.Errorf("%s, a resource: %v", when, got)
		}
	}
	check := func(when string, want authorizer.Decision, says string) {
		t.Helper()
		for name, who := range nodes {
			if got, reason := ask(who); got != want || !strings.Contains(reason, says) {
				t.Errorf("%s, the %s: %v %q, want %v %q", when, name, got, reason, want, says)
			}
		}
		for name, who := range others {
			if got, _ := ask(who); got != authorizer.DecisionAllow {
				t.Errorf("%s, %s: %v", when, name, got)
			}
		}
	}
	check("before the list is read", authorizer.DecisionDeny, "has not been read")
	checkReady("before the list is read")
	close(ready)
	for _, step := range []struct {
		when string
		do   func() error
		want authorizer.Decision
		says string
	}{
		{"nobody was removed", func() error { return a.list.Replace(nil, "1") }, authorizer.DecisionAllow, ""},
		{"another was", func() error { return a.list.Add(names("n1", "n22")) }, authorizer.DecisionAllow, ""},
		{"it was removed", func() error { return a.list.Update(names("n1", "n2")) }, authorizer.DecisionDeny, `"n2" was removed`},
		{"it joined again", func() error { return a.list.Update(names("n1")) }, authorizer.DecisionAllow, ""},
		{"it was removed, and the list read anew", func() error { return a.list.Replace([]any{names("n2")}, "9") }, authorizer.DecisionDeny, "removed"},
		{"the list is gone", func() error { return a.list.Delete(names()) }, authorizer.DecisionAllow, ""},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		check(step.when, step.want, step.says)
	}
	binary := names()
	binary.BinaryData = map[string][]byte{"n2": {0xff}}
	if err := a.list.Add(binary); err != nil {
		t.Fatal(err)
	}
	check("as bytes", authorizer.DecisionDeny, "removed")
	checkReady("as bytes")
}

// Who asks before the list is known, or the roles, is answered by them.
func TestWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ready := make(chan struct{})
		var roles atomic.Bool
		next := func(_ context.Context, attributes authorizer.Attributes) (authorizer.Decision, string, error) {
			if roles.Load() && attributes.GetUser().GetName() != "system:node:stranger" {
				return authorizer.DecisionAllow, "", nil
			}
			return authorizer.DecisionNoOpinion, "", nil
		}
		a := Before(authorizer.AuthorizerFunc(next), ready)
		answers := map[string]authorizer.Decision{}
		var mu sync.Mutex
		ask := func(ctx context.Context, name string) {
			who := &user.DefaultInfo{Name: "system:node:" + name}
			got, _, _ := a.Authorize(ctx, authorizer.AttributesRecord{User: who, Verb: "get", Path: "/version"})
			mu.Lock()
			defer mu.Unlock()
			answers[name] = got
		}
		here := func(name string) { ask(t.Context(), name) }
		gone, leave := context.WithCancel(t.Context())
		begun := time.Now()
		for who, do := range map[string]func(string){"member": here, "removed": here, "stranger": here, "gone": func(name string) { ask(gone, name) }} {
			go do(who)
		}
		after(time.Second)
		leave()
		synctest.Wait()
		if len(answers) != 1 || answers["gone"] != authorizer.DecisionDeny {
			t.Fatalf("before the list is known: %v", answers)
		}
		if err := a.list.Replace([]any{names("removed")}, "1"); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if len(answers) != 2 || answers["removed"] != authorizer.DecisionDeny {
			t.Fatalf("before the roles are known: %v", answers)
		}
		roles.Store(true)
		after(time.Second)
		if len(answers) != 3 || answers["member"] != authorizer.DecisionAllow {
			t.Fatalf("when they are: %v", answers)
		}
		close(ready)
		after(settle)
		if len(answers) != 4 || answers["stranger"] != authorizer.DecisionNoOpinion {
			t.Errorf("when it is ready: %v", answers)
		}
		roles.Store(false)
		if here("late"); answers["late"] != authorizer.DecisionNoOpinion || time.Since(begun) != 3*time.Second+settle {
			t.Errorf("afterwards nobody waits: %v", answers)
		}
	})
}

// after passes time in a bubble of synctest.
func after(d time.Duration) { <-time.After(d); synctest.Wait() }

// What is under way for a node's program ends with the node, also when the handler has returned, as that of a watch does;
// nobody else's does.
func TestEnds(t *testing.T) {
	t.Parallel()
	a := Before(authorizer.AuthorizerFunc(allowAll), nil)
	if err := a.list.Replace(nil, "1"); err != nil {
		t.Fatal(err)
	}
	begin := func(ctx context.Context, who user.Info) context.Context {
		var inside context.Context
		ask := httptest.NewRequestWithContext(request.WithUser(ctx, who), http.MethodGet, "/api/v1/services?watch=true", http.NoBody)
		a.Ends(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { inside = r.Context() })).ServeHTTP(httptest.NewRecorder(), ask)
		return inside
	}
	proxy := &user.DefaultInfo{Name: "system:kube-proxy", Groups: []string{"mk:proxy:n2"}}
	watched, other := begin(t.Context(), proxy), begin(t.Context(), &user.DefaultInfo{Name: "system:node:n3"})
	person := begin(t.Context(), &user.DefaultInfo{Name: "n2"})
	ended, end := context.WithCancel(t.Context())
	begin(ended, proxy)
	end()
	if watched.Err() != nil {
		t.Fatal("it ends with its handler")
	}
	if err := a.list.Add(names("n2")); err != nil {
		t.Fatal(err)
	}
	if watched.Err() == nil || other.Err() != nil || person.Err() != nil {
		t.Errorf("removed: %v; another node: %v; a person: %v", watched.Err(), other.Err(), person.Err())
	}
	if late := begin(t.Context(), proxy); late.Err() == nil {
		t.Error("what was let in just before the removal goes on")
	}
	// Nothing is kept of what has ended.
	left := func() int {
		a.list.mu.Lock()
		defer a.list.mu.Unlock()
		return len(a.list.ends["n2"])
	}
	for deadline := time.Now().Add(10 * time.Second); left() > 0 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if left() > 0 || len(a.list.ends["n3"]) != 1 {
		t.Errorf("%d of the removed node and %d of another are kept", left(), len(a.list.ends["n3"]))
	}
}
