package drain

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func pod(name string) *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "a", UID: "u-1", Labels: map[string]string{"app": name},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "r", Controller: &yes}},
		},
		Spec:   corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

func budget(name string, allowed int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "guard-" + name, Namespace: "a"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed},
	}
}

// evicting lets the fake answer evictions.
func evicting(client *fake.Clientset, answer func(name string) error) {
	client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		return true, nil, answer(a.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction).Name)
	})
}

func limited(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestPodsGo(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(pod("one"), pod("two"))
	evicting(client, func(name string) error {
		return client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), "a", name)
	})
	var mu sync.Mutex
	var told []string
	end := Run(limited(t, 30*time.Second), client, Request{Node: "n"}, func(text string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, text)
	})
	if end.Error != "" || len(end.Blocked) > 0 {
		t.Fatalf("ended with %+v", end)
	}
	if !slices.Contains(told, "pod a/one is gone") || !slices.Contains(told, "pod a/two is gone") {
		t.Fatalf("told %q", told)
	}
}

func TestTheBudgetThatRefusesIsNamed(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(pod("one"), pod("two"), budget("one", 0), budget("two", 1))
	ctx, cancel := context.WithCancel(limited(t, 30*time.Second))
	defer cancel()
	evicting(client, func(name string) error {
		if name == "one" {
			err := apierrors.NewTooManyRequests("no", 0)
			err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: "it needs one pod"}}
			return err
		}
		return client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), "a", name)
	})
	end := Run(ctx, client, Request{Node: "n"}, func(text string) {
		if text == "pod a/two is gone" {
			cancel() // as when whoever asked has no more time
		}
	})
	if end.Error == "" || len(end.Blocked) != 1 || !slices.Equal(end.Blocked[0].Budgets, []string{"a/guard-one"}) {
		t.Fatalf("ended with %+v", end)
	}
}

func TestAnEvictionThatIsForbiddenEndsAll(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(pod("one"))
	evicting(client, func(name string) error {
		return apierrors.NewForbidden(corev1.Resource("pods"), name, nil)
	})
	end := Run(limited(t, 30*time.Second), client, Request{Node: "n"}, func(string) {})
	if end.Status == nil || end.Status.Reason != metav1.StatusReasonForbidden || len(end.Blocked) != 1 {
		t.Fatalf("ended with %+v", end)
	}
}

func TestAPodThatNothingMakesAgainStopsItBeforeAnything(t *testing.T) {
	t.Parallel()
	lone := pod("lone")
	lone.OwnerReferences = nil
	client := fake.NewClientset(lone, pod("one"))
	evicting(client, func(name string) error { t.Errorf("%s was evicted", name); return nil })
	end := Run(limited(t, 30*time.Second), client, Request{Node: "n"}, func(string) {})
	if !strings.Contains(end.Error, "a/lone") {
		t.Fatalf("ended with %+v", end)
	}
}

func TestAPodThatEndsForTooLongIsAbandoned(t *testing.T) {
	t.Parallel()
	old := pod("old")
	old.DeletionTimestamp, old.Finalizers = &metav1.Time{Time: time.Now().Add(-time.Hour)}, []string{"example.com/never"}
	client := fake.NewClientset(old)
	evicting(client, func(string) error { return nil })
	end := Run(limited(t, 30*time.Second), client, Request{Node: "n", AbandonAfter: time.Minute}, func(string) {})
	if end.Error != "" {
		t.Fatalf("ended with %+v", end)
	}
}
