package drain

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// lookAgain is how often pods are looked at that did not change: one may have become old enough to be abandoned.
const lookAgain = 5 * time.Second

// waitGone watches the node's pods until none of those that were chosen is left.
func (e *evictions) waitGone(ctx context.Context) error {
	only := fields.OneTermEqualSelector("spec.nodeName", e.request.Node).String()
	pods := e.client.CoreV1().Pods(metav1.NamespaceAll)
	changed := make(chan struct{}, 1)
	ring := func() {
		select {
		case changed <- struct{}{}:
		default: // it rings already
		}
	}
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = only
				return pods.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = only
				return pods.Watch(ctx, o)
			},
		}, e.client),
		ObjectType: &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { ring() }, UpdateFunc: func(any, any) { ring() }, DeleteFunc: func(any) { ring() },
		},
	})
	go controller.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), controller.HasSynced) {
		return fmt.Errorf("wait for the pods to end: %w", context.Cause(ctx))
	}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for !e.seen(store) {
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the pods to end: %w", context.Cause(ctx))
		}
	}
	return nil
}

// seen strikes off the pods that are gone, or that nobody will end any more; true when none is left.
func (e *evictions) seen(store cache.Store) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	abandonAfter := e.request.AbandonAfter
	for key := range maps.Clone(e.left) {
		obj, _, err := store.GetByKey(key)
		pod, ok := obj.(*corev1.Pod)
		switch {
		case err != nil:
			continue
		case !ok || pod.UID != e.pods[key].UID:
		case abandonAfter > 0 && pod.DeletionTimestamp != nil && time.Since(pod.DeletionTimestamp.Time) > abandonAfter:
		default:
			continue
		}
		delete(e.left, key)
		e.progress("pod " + key + " is gone")
	}
	return len(e.left) == 0
}
