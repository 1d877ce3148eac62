package kube

import (
	"context"
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// resource is where the objects of one kind are served.
type resource struct {
	gvr        schema.GroupVersionResource
	namespaced bool
}

// NoKindError says that the API server does not serve a kind: its CRD or its API server is missing.
type NoKindError struct{ Kind schema.GroupVersionKind }

// Error implements error.
func (e *NoKindError) Error() string {
	return fmt.Sprintf("the API server does not serve %s of %s", e.Kind.Kind, e.Kind.GroupVersion())
}

// resources finds where kinds are served, one request for each group version that is asked for. It lives as long as one
// Apply or Delete, because CRDs come and go.
type resources struct {
	client *Client
	mu     sync.Mutex
	known  map[schema.GroupVersion]map[string]resource
}

func (c *Client) newResources() *resources {
	return &resources{client: c, known: map[schema.GroupVersion]map[string]resource{}}
}

// find gives a *NoKindError for a kind that is not served.
func (r *resources) find(ctx context.Context, gvk schema.GroupVersionKind) (resource, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gv := gvk.GroupVersion()
	kinds, ok := r.known[gv]
	if !ok {
		var err error
		if kinds, err = r.fetch(ctx, gv); err != nil {
			return resource{}, err
		}
		r.known[gv] = kinds
	}
	res, ok := kinds[gvk.Kind]
	if !ok {
		return resource{}, &NoKindError{gvk}
	}
	return res, nil
}

// forget drops what is known of a group version, because CRDs have changed.
func (r *resources) forget(gv schema.GroupVersion) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, gv)
}

func (r *resources) fetch(ctx context.Context, gv schema.GroupVersion) (map[string]resource, error) {
	path := "/apis/" + gv.String()
	if gv.Group == "" {
		path = "/api/" + gv.Version
	}
	list := &metav1.APIResourceList{}
	err := r.client.typed.core.Get().AbsPath(path).Do(ctx).Into(list)
	if apierrors.IsNotFound(err) {
		return map[string]resource{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask what %s serves: %w", gv, err)
	}
	kinds := map[string]resource{}
	for _, res := range list.APIResources {
		if strings.Contains(res.Name, "/") {
			continue
		}
		kinds[res.Kind] = resource{gvr: gv.WithResource(res.Name), namespaced: res.Namespaced}
	}
	return kinds, nil
}

// at is the client of one object's collection.
func (c *Client) at(res resource, namespace string) dynamic.ResourceInterface {
	if res.namespaced {
		return c.dynamic.Resource(res.gvr).Namespace(namespace)
	}
	return c.dynamic.Resource(res.gvr)
}
