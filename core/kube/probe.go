package kube

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// probeAtOnce bounds the requests of one Probe; HTTP/2 carries them on one connection.
	probeAtOnce = 16
	// listFrom is the number of targets in one namespace from which one list is cheaper than a request each.
	listFrom = 3
)

// ProbeTarget names an object that tells whether an addon is enabled and healthy.
type ProbeTarget = Ref

// ProbeResult is what one object tells.
type ProbeResult struct {
	Target  ProbeTarget
	Exists  bool
	Healthy bool
	// Reason says why the object is not healthy; empty where it is.
	Reason string
	// Err is why the API server could not tell; Exists and Healthy are false then.
	Err error
}

var (
	namespaces     = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	crds           = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	endpointSlices = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
)

// Probe looks at all targets at once, without discovery, and answers in their order. Errors are per target; it returns
// when the context ends at the latest.
func (c *Client) Probe(ctx context.Context, targets []ProbeTarget) []ProbeResult {
	results := make([]ProbeResult, len(targets))
	type place struct {
		kind      schema.GroupVersionKind
		namespace string
	}
	groups := map[place][]int{}
	for i, t := range targets {
		results[i].Target = t
		groups[place{t.GVK(), t.Namespace}] = append(groups[place{t.GVK(), t.Namespace}], i)
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, probeAtOnce)
	for at, indexes := range groups {
		if len(indexes) >= listFrom {
			running.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				c.probeList(ctx, at.kind, at.namespace, results, indexes)
			})
			continue
		}
		for _, i := range indexes {
			running.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				results[i] = c.probeOne(ctx, targets[i])
			})
		}
	}
	running.Wait()
	return results
}

// resourceGuess is the collection of a kind as Kubernetes names them: lower case, plural. It is right for all built-in
// kinds and nearly all others; where it is wrong, the object is reported as not existing.
func resourceGuess(kind schema.GroupVersionKind, namespace string) resource {
	plural, _ := meta.UnsafeGuessKindToResource(kind)
	return resource{gvr: plural, namespaced: namespace != ""}
}

func (c *Client) probeOne(ctx context.Context, t ProbeTarget) ProbeResult {
	if err := checkEntry(entry{Ref: t}); err != nil {
		return ProbeResult{Target: t, Err: err}
	}
	u, err := c.at(resourceGuess(t.GVK(), t.Namespace), t.Namespace).Get(ctx, t.Name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return ProbeResult{Target: t, Reason: "does not exist"}
	}
	if err != nil {
		return ProbeResult{Target: t, Err: fmt.Errorf("read %s: %w", t, err)}
	}
	return c.judge(ctx, t, u)
}

func (c *Client) probeList(ctx context.Context, kind schema.GroupVersionKind, namespace string, results []ProbeResult, indexes []int) {
	list, err := c.at(resourceGuess(kind, namespace), namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil && !apierrors.IsNotFound(err) {
		for _, i := range indexes {
			results[i].Err = fmt.Errorf("list %s in %q: %w", kind.Kind, namespace, err)
		}
		return
	}
	found := map[string]*unstructured.Unstructured{}
	if err == nil {
		for i := range list.Items {
			found[list.Items[i].GetName()] = &list.Items[i]
		}
	}
	for _, i := range indexes {
		u, ok := found[results[i].Target.Name]
		if !ok {
			results[i].Reason = "does not exist"
			continue
		}
		results[i] = c.judge(ctx, results[i].Target, u)
	}
}

func (c *Client) judge(ctx context.Context, t ProbeTarget, u *unstructured.Unstructured) ProbeResult {
	h := HealthOf(u)
	if t.Kind == "Service" && t.Group == "" && h.Healthy && needsEndpoints(u) {
		slices, err := c.dynamic.Resource(endpointSlices).Namespace(t.Namespace).List(ctx, metav1.ListOptions{
			LabelSelector: "kubernetes.io/service-name=" + t.Name, ResourceVersion: "0",
		})
		if err != nil {
			return ProbeResult{Target: t, Exists: true, Err: fmt.Errorf("list the endpoints of %s: %w", t, err)}
		}
		h = endpointHealth(slices.Items)
	}
	return ProbeResult{Target: t, Exists: true, Healthy: h.Healthy, Reason: h.Reason}
}

// Overview is what mk status asks the API server.
type Overview struct {
	// ReadyErr is why the API server is not ready; it may answer all the same.
	ReadyErr error
	Nodes    []Node
	// NodesErr is why the nodes could not be listed; the probes say of themselves.
	NodesErr error
	Probes   []ProbeResult
}

// Overview asks for readiness, lists the nodes and probes the targets at the same time.
func (c *Client) Overview(ctx context.Context, targets []ProbeTarget) Overview {
	var o Overview
	var running sync.WaitGroup
	running.Go(func() { o.ReadyErr = c.Ready(ctx) })
	running.Go(func() { o.Nodes, o.NodesErr = c.Nodes(ctx) })
	running.Go(func() { o.Probes = c.Probe(ctx, targets) })
	running.Wait()
	return o
}

// WaitHealthy waits until every target exists and is healthy, or the context ends. It watches each target. progress,
// which may be nil, hears what is missing, from one goroutine.
func (c *Client) WaitHealthy(ctx context.Context, targets []ProbeTarget, progress func(string)) error {
	tell := onChange(progress)
	for _, t := range targets {
		if err := c.waitHealthy(ctx, t, tell); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) waitHealthy(ctx context.Context, t ProbeTarget, tell func(string)) error {
	if err := checkEntry(entry{Ref: t}); err != nil {
		return fmt.Errorf("wait for %s: %w", t, err)
	}
	key := t.Namespace + "/" + t.Name
	endpoints := false
	err := c.waitHealth(ctx, t, c.oneObject(resourceGuess(t.GVK(), t.Namespace), t.Namespace, t.Name), tell, func(set watched) Health {
		u, ok := set[key].(*unstructured.Unstructured)
		if !ok {
			return unhealthy("does not exist")
		}
		endpoints = t.Kind == "Service" && t.Group == "" && needsEndpoints(u)
		return HealthOf(u)
	})
	if err != nil || !endpoints {
		return err
	}
	return c.waitHealth(ctx, t, c.sliceSource(t), tell, func(set watched) Health {
		var slices []unstructured.Unstructured
		for _, obj := range set {
			if u, ok := obj.(*unstructured.Unstructured); ok {
				slices = append(slices, *u)
			}
		}
		return endpointHealth(slices)
	})
}

func (c *Client) waitHealth(ctx context.Context, t ProbeTarget, src source, tell func(string), judge func(watched) Health) error {
	state := "not asked yet"
	err := follow(ctx, src, observer{
		see: func(set watched, _ []string) (bool, error) {
			h := judge(set)
			if state = h.Reason; !h.Healthy {
				tell(t.String() + ": " + state)
			}
			return h.Healthy, nil
		},
		trouble: func(err error) { tell("waiting for the API server: " + err.Error()) },
	})
	if err != nil {
		return fmt.Errorf("wait for %s (%s): %w", t, state, err)
	}
	return nil
}

// sliceSource watches the endpoints of a service instead of the service, which does not change when they come.
func (c *Client) sliceSource(t ProbeTarget) source {
	at := c.dynamic.Resource(endpointSlices).Namespace(t.Namespace)
	return narrowed(at.List, at.Watch, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + t.Name})
}
