// Package removed keeps the programs of nodes that were removed out of an API server, though their certificates are valid
// still: an authorizer in front of the others, which goes by the list that mk writes.
package removed

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"mk8s.io/mk/core/revoked"
)

// readyz is open to everybody: by it clients tell what is refused for good from what an API server refuses that starts.
const readyz = "/readyz"

// Authorizer denies everything to who is on the list. While the API server starts it knows neither the list nor the roles:
// the programs of nodes wait then, where they would be refused. They would ask again after growing pauses, or not at all.
// That lasts no longer than patience. What it does not deny the next one decides.
type Authorizer struct {
	next     authorizer.Authorizer
	list     *list
	ready    <-chan struct{} // closed when the API server was ready once
	patience time.Duration   // of who asks before
}

const (
	// patience is how long who asks before waits: less than the clients of nodes
	// do, so that they hear why they are refused.
	patience = 7 * time.Second
	// askFirst and askMost are the pauses before the next one is asked again.
	askFirst, askMost = 20 * time.Millisecond, 200 * time.Millisecond
	settle            = time.Second
)

// Before is an authorizer that asks next about everybody who was not removed; ready is closed when the API server is.
func Before(next authorizer.Authorizer, ready <-chan struct{}) *Authorizer {
	return &Authorizer{next: next, list: newList(), ready: ready, patience: patience}
}

// Authorize implements authorizer.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, attributes authorizer.Attributes) (authorizer.Decision, string, error) {
	u := attributes.GetUser()
	if u == nil || attributes.GetPath() == readyz && !attributes.IsResourceRequest() {
		return a.next.Authorize(ctx, attributes)
	}
	name, is := revoked.Node(u.GetName(), u.GetGroups())
	if !is {
		return a.next.Authorize(ctx, attributes)
	}
	ready := a.ready
	select {
	case <-ready:
		return a.decide(ctx, name, attributes)
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	for pause := askFirst; ; pause = min(2*pause, askMost) {
		decision, reason, err := a.decide(ctx, name, attributes)
		if decision == authorizer.DecisionAllow || a.list.holds(name) {
			return decision, reason, err
		}
		select {
		case <-time.After(pause):
		case <-ready:
			ready = nil
			// Roles are read a moment after they are written.
			ctx, cancel = context.WithTimeout(ctx, settle)
			defer cancel()
		case <-ctx.Done():
			return decision, reason, err
		}
	}
}

func (a *Authorizer) decide(ctx context.Context, name string, attributes authorizer.Attributes) (authorizer.Decision, string, error) {
	select {
	case <-a.list.read:
	default:
		return authorizer.DecisionDeny, "the list of removed nodes has not been read yet", nil
	}
	if a.list.holds(name) {
		return authorizer.DecisionDeny, fmt.Sprintf("the node %q was removed from the cluster; it comes back by mk join", name), nil
	}
	return a.next.Authorize(ctx, attributes)
}

// Ends is next, but what is under way for a node's program ends when the node is removed: an API server decides about a
// watch once, when it begins, and lets it last as long as its client wants.
func (a *Authorizer) Ends(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, known := request.UserFrom(r.Context()); known {
			if name, is := revoked.Node(u.GetName(), u.GetGroups()); is {
				r = r.WithContext(a.list.underWay(r.Context(), name))
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Follow has the authorizer go by the list, and by each change of it, until ctx ends. It comes back when the list has been
// read once, or ctx has ended.
func (a *Authorizer) Follow(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("follow the list of removed nodes: %w", err)
	}
	one := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "configmaps", revoked.Namespace,
		fields.OneTermEqualSelector("metadata.name", revoked.Name))
	go cache.NewReflectorWithOptions(one, &corev1.ConfigMap{}, a.list, cache.ReflectorOptions{
		Name: "removed nodes",
		// One object, asked of this very process: it need not be spared, and may have changed while it had no datastore.
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 5, Cap: time.Second, Jitter: 0.5},
	}).RunWithContext(ctx)
	select {
	case <-a.list.read:
	case <-ctx.Done():
	}
	return nil
}
