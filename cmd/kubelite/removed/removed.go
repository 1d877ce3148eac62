// Package removed keeps the programs of nodes that were removed out of an API server, though their certificates are valid
// still: an authorizer in front of the others, which goes by the list that mk writes.
package removed

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"mk8s.io/mk/core/revoked"
)

// readyz is open to everybody: by it clients tell what is refused for good from what an API server refuses that starts.
const readyz = "/readyz"

// Authorizer denies everything to who is on the list, and to the programs of all nodes until the list has been read: an API
// server that starts forbids everything to everybody else meanwhile. What it does not deny the next one decides.
type Authorizer struct {
	next authorizer.Authorizer
	list *list
}

// list is what the API server has of the list: no object where nobody was ever removed.
type list struct {
	cache.Store
	first sync.Once
	read  chan struct{} // closed when it is known
}

// Replace takes over what was read.
func (l *list) Replace(objects []any, version string) error {
	err := l.Store.Replace(objects, version)
	if err == nil {
		l.first.Do(func() { close(l.read) })
	}
	return err
}

// holds reports whether a name is on the list; not before it is known.
func (l *list) holds(name string) bool {
	found, _, _ := l.GetByKey(revoked.Namespace + "/" + revoked.Name) // in memory: it does not fail
	names, is := found.(*corev1.ConfigMap)
	if !is {
		return false
	}
	_, text := names.Data[name]
	_, bytes := names.BinaryData[name]
	return text || bytes
}

// Before is an authorizer that asks next about everybody who was not removed.
func Before(next authorizer.Authorizer) *Authorizer {
	return &Authorizer{next: next, list: &list{Store: cache.NewStore(cache.MetaNamespaceKeyFunc), read: make(chan struct{})}}
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

// Follow has the authorizer go by the list, and by each change of it, until ctx ends. It comes back when the list has been
// read once, or ctx has ended.
func (a *Authorizer) Follow(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("follow the list of removed nodes: %w", err)
	}
	one := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "configmaps", revoked.Namespace,
		fields.OneTermEqualSelector("metadata.name", revoked.Name))
	go cache.NewReflectorWithOptions(one, &corev1.ConfigMap{}, a.list, cache.ReflectorOptions{Name: "removed nodes"}).RunWithContext(ctx)
	select {
	case <-a.list.read:
	case <-ctx.Done():
	}
	return nil
}
