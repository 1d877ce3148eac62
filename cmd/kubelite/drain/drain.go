// Package drain evicts the pods of a node with kubectl's own library: its choice of pods, and its eviction request, so that
// PodDisruptionBudgets hold. It waits by a watch, and ends when it is told to: the library's own loop sleeps, and asks the
// server in discovery which eviction it knows.
//
// It does not cordon, and takes no node back into use: who asks does both, also for an eviction whose process was killed.
package drain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kubectl/pkg/drain"
)

// Request is what mk asks for, as core/kube writes it.
type Request struct {
	Server          string               `json:"server"`
	TLS             rest.TLSClientConfig `json:"tls"`
	BearerToken     string               `json:"bearerToken,omitempty"`
	BearerTokenFile string               `json:"bearerTokenFile,omitempty"`
	UserAgent       string               `json:"userAgent"`

	Node               string        `json:"node"`
	DeleteEmptyDirData bool          `json:"deleteEmptyDirData,omitempty"`
	Force              bool          `json:"force,omitempty"`
	GracePeriod        time.Duration `json:"gracePeriod,omitempty"`  // 0 keeps the pods' own
	AbandonAfter       time.Duration `json:"abandonAfter,omitempty"` // 0 waits for every pod
}

// Pod is one that is left, and why.
type Pod struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Budgets   []string `json:"budgets,omitempty"`
	Reason    string   `json:"reason"`
}

// Answer is one line that is written: something that happened or, last, the end.
type Answer struct {
	Progress string         `json:"progress,omitempty"`
	End      bool           `json:"end,omitempty"`
	Error    string         `json:"error,omitempty"`  // at the end, where pods are left
	Status   *metav1.Status `json:"status,omitempty"` // the server's, where the error is its answer
	Blocked  []Pod          `json:"blocked,omitempty"`
}

const (
	listPage = 500
	// evictAtOnce bounds how many evictions are under way; one that a budget refuses gives its place up while it waits.
	evictAtOnce = 16
	// namingLimit bounds the search for the budgets after the end.
	namingLimit = 5 * time.Second
)

// Connect makes the client that a request asks for. It does not dial.
func Connect(r Request) (kubernetes.Interface, error) {
	config := &rest.Config{
		Host: r.Server, TLSClientConfig: r.TLS, BearerToken: r.BearerToken, BearerTokenFile: r.BearerTokenFile,
		UserAgent: r.UserAgent, QPS: 50, Burst: 100,
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf", AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json"},
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("prepare a client of %s: %w", r.Server, err)
	}
	return client, nil
}

// Run evicts the pods and waits until they are gone or the context ends. It tells progress, which may be called from several
// goroutines, one at a time, and gives the last answer.
func Run(ctx context.Context, client kubernetes.Interface, r Request, progress func(string)) Answer {
	e := &evictions{client: client, request: r, progress: progress, left: map[string]string{}, pods: map[string]corev1.Pod{}, slots: make(chan struct{}, evictAtOnce)}
	err := e.run(ctx)
	if err == nil {
		return Answer{End: true}
	}
	end := Answer{End: true, Error: err.Error(), Blocked: e.blocked()}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		s := status.Status()
		end.Status = &s
	}
	// The context may have ended, and the budgets are to be named for that.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), namingLimit)
	defer cancel()
	nameBudgets(late, client, end.Blocked)
	return end
}

// evictions is the state of one drain: what is left, and what each pod waits for.
type evictions struct {
	client   kubernetes.Interface
	request  Request
	progress func(string)
	slots    chan struct{}
	mu       sync.Mutex
	pods     map[string]corev1.Pod
	left     map[string]string
}

func (e *evictions) helper(ctx context.Context) *drain.Helper {
	r := e.request
	h := &drain.Helper{
		Ctx: ctx, Client: e.client, Force: r.Force, GracePeriodSeconds: -1, IgnoreAllDaemonSets: true,
		DeleteEmptyDirData: r.DeleteEmptyDirData, ChunkSize: listPage, Out: io.Discard, ErrOut: io.Discard,
		SkipWaitForDeleteTimeoutSeconds: int(r.AbandonAfter.Seconds()),
	}
	if r.GracePeriod > 0 {
		h.GracePeriodSeconds = max(1, int(r.GracePeriod.Seconds()))
	}
	return h
}

func (e *evictions) run(ctx context.Context) error {
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	helper := e.helper(work)
	list, errs := helper.GetPodsForDeletion(e.request.Node)
	if len(errs) > 0 {
		return fmt.Errorf("choose the pods to evict: %w", errors.Join(errs...))
	}
	for _, pod := range list.Pods() {
		key := pod.Namespace + "/" + pod.Name
		e.pods[key] = pod
		e.left[key] = "not evicted yet"
	}
	if len(e.left) == 0 {
		return nil
	}
	var running sync.WaitGroup
	for key := range maps.Clone(e.left) {
		running.Go(func() {
			if err := e.evict(work, helper, key); err != nil {
				cancel(err)
			}
		})
	}
	err := e.waitGone(work)
	if cause := context.Cause(work); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	running.Wait()
	return err
}

// evict asks until the eviction is accepted, the pod is gone or the context ends.
func (e *evictions) evict(ctx context.Context, helper *drain.Helper, key string) error {
	for pause := pauseFirst; ; pause = min(pause*2, pauseMost) {
		pod, ok := e.pod(key)
		if !ok {
			return nil
		}
		select {
		case e.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		err := helper.EvictPod(pod, policyv1.SchemeGroupVersion)
		<-e.slots
		switch {
		case err == nil || apierrors.IsNotFound(err):
			e.note(key, "evicted, has not ended yet")
			return nil
		case ctx.Err() != nil:
			return nil
		case apierrors.IsTooManyRequests(err):
			e.note(key, refusal(err))
		case apierrors.IsForbidden(err) && apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			e.note(key, "its namespace is being deleted")
		case apierrors.IsInternalError(err) || apierrors.IsServerTimeout(err) || apierrors.IsConflict(err):
			e.note(key, err.Error())
		default:
			e.note(key, err.Error())
			return fmt.Errorf("evict pod %s: %w", key, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// An eviction that was refused is tried again after these.
const (
	pauseFirst = 100 * time.Millisecond
	pauseMost  = 2 * time.Second
)

// refusal is what a disruption budget gave as its reason.
func refusal(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			if cause.Type == policyv1.DisruptionBudgetCause && cause.Message != "" {
				return cause.Message
			}
		}
	}
	return err.Error()
}

func (e *evictions) pod(key string) (corev1.Pod, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.left[key]
	return e.pods[key], ok
}

func (e *evictions) note(key, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old, ok := e.left[key]; ok && old != text {
		e.left[key] = text
		e.progress("pod " + key + ": " + text)
	}
}

func (e *evictions) blocked() []Pod {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Pod
	for _, key := range slices.Sorted(maps.Keys(e.left)) {
		ns, name, _ := strings.Cut(key, "/")
		out = append(out, Pod{Namespace: ns, Name: name, Reason: e.left[key]})
	}
	return out
}
