package kube

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
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/kubectl/pkg/drain"
)

// DrainOptions say which pods may go and how long they get. The zero value is the careful one: pods with local data or
// without a controller stop the drain before anything is evicted. Pods of DaemonSets and static pods always stay.
type DrainOptions struct {
	// DeleteEmptyDirData lets pods with emptyDir volumes go; their data is lost.
	DeleteEmptyDirData bool
	// Force lets pods without a controller go; nothing makes them again.
	Force bool
	// GracePeriod replaces the pods' own; 0 keeps theirs.
	GracePeriod time.Duration
	// Timeout ends the drain; 0 leaves it to the context.
	Timeout time.Duration
	// AbandonAfter stops waiting for pods whose deletion began longer ago than this, as on a node that is down; 0 waits.
	AbandonAfter time.Duration
}

// BlockedPod is a pod that kept a node from being drained.
type BlockedPod struct {
	Namespace, Name string
	// Budgets are the PodDisruptionBudgets that refused the eviction.
	Budgets []string
	Reason  string
}

// DrainError says which pods are left on a node and why. It wraps the end of the context or what the server answered.
type DrainError struct {
	Node    string
	Blocked []BlockedPod
	// Uncordoned is whether the node takes pods again, because it did before the drain.
	Uncordoned bool
	Err        error
}

// Error implements error.
func (e *DrainError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "drain node %s: %v", e.Node, e.Err)
	for _, p := range e.Blocked {
		fmt.Fprintf(&b, "; pod %s/%s: %s", p.Namespace, p.Name, p.Reason)
		if len(p.Budgets) > 0 {
			fmt.Fprintf(&b, " (PodDisruptionBudget %s)", strings.Join(p.Budgets, ", "))
		}
	}
	if e.Uncordoned {
		b.WriteString("; the node takes pods again")
	}
	return b.String()
}

// Unwrap gives what ended the drain.
func (e *DrainError) Unwrap() error { return e.Err }

// undoTimeout bounds what is put right after a context has ended.
const undoTimeout = 10 * time.Second

// Drain cordons a node and evicts its pods through the Eviction API, so that PodDisruptionBudgets hold, and waits until
// they are gone. On an error the node is uncordoned again where it was not cordoned before; pods evicted so far stay so.
// The error is a *DrainError once eviction has begun. progress, which may be nil, may be called from several goroutines,
// one at a time.
func (c *Client) Drain(ctx context.Context, name string, opts DrainOptions, progress func(string)) error {
	if opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.Timeout)
		defer cancel()
	}
	node, err := c.Node(ctx, name)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	if err := c.Cordon(ctx, name); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	err = c.evictAll(ctx, name, opts, progress)
	if err == nil {
		return nil
	}
	failed := &DrainError{Node: name, Err: err}
	var inner *DrainError
	if errors.As(err, &inner) {
		failed = inner
	}
	// The context may have ended, and the node must not stay cordoned for that.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	c.nameBudgets(undo, failed.Blocked)
	if !node.Unschedulable {
		if uncordon := c.Uncordon(undo, name); uncordon != nil {
			failed.Err = fmt.Errorf("%w (and the node stays cordoned: %w)", failed.Err, uncordon)
		} else {
			failed.Uncordoned = true
		}
	}
	return failed
}

// PodsToDrain lists the pods, as namespace/name, that Drain would evict, or why it would refuse to begin. It changes nothing.
func (c *Client) PodsToDrain(ctx context.Context, name string, opts DrainOptions) ([]string, error) {
	pods, err := podsOf(c.drainHelper(ctx, opts), name)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(pods))
	for i := range pods {
		names = append(names, pods[i].Namespace+"/"+pods[i].Name)
	}
	slices.Sort(names)
	return names, nil
}

func (c *Client) drainHelper(ctx context.Context, opts DrainOptions) *drain.Helper {
	helper := &drain.Helper{
		Ctx: ctx, Client: c.typed, Force: opts.Force, GracePeriodSeconds: -1, IgnoreAllDaemonSets: true,
		DeleteEmptyDirData: opts.DeleteEmptyDirData, ChunkSize: listPage, Out: io.Discard, ErrOut: io.Discard,
		SkipWaitForDeleteTimeoutSeconds: int(opts.AbandonAfter.Seconds()),
	}
	if opts.GracePeriod > 0 {
		helper.GracePeriodSeconds = max(1, int(opts.GracePeriod.Seconds()))
	}
	return helper
}

func podsOf(helper *drain.Helper, name string) ([]corev1.Pod, error) {
	list, errs := helper.GetPodsForDeletion(name)
	if len(errs) > 0 {
		return nil, fmt.Errorf("choose the pods to evict: %w", errors.Join(errs...))
	}
	return list.Pods(), nil
}

// evictAll uses kubectl's choice of pods and its eviction request, but waits by a watch and ends with the context: the
// library's own loop sleeps and asks the server in discovery which eviction it knows.
func (c *Client) evictAll(ctx context.Context, name string, opts DrainOptions, progress func(string)) error {
	helper := c.drainHelper(ctx, opts)
	pods, err := podsOf(helper, name)
	if err != nil || len(pods) == 0 {
		return err
	}
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	helper.Ctx = work
	e := &evictions{helper: helper, progress: progress, left: map[string]string{}, pods: map[string]corev1.Pod{}, slots: make(chan struct{}, evictAtOnce)}
	for i := range pods {
		key := pods[i].Namespace + "/" + pods[i].Name
		e.pods[key] = pods[i]
		e.left[key] = "not evicted yet"
	}
	var running sync.WaitGroup
	for key := range maps.Clone(e.pods) {
		running.Go(func() {
			if err := e.evict(work, key); err != nil {
				cancel(err)
			}
		})
	}
	err = follow(work, c.podSource(name), observer{see: func(set watched, _ []string) (bool, error) {
		return e.seen(set, opts.AbandonAfter), nil
	}})
	if cause := context.Cause(work); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	running.Wait()
	if err != nil {
		return &DrainError{Node: name, Blocked: e.blocked(), Err: err}
	}
	return nil
}

// evictAtOnce bounds how many evictions are under way; one that a budget refuses gives its place up while it waits.
const evictAtOnce = 16

func (c *Client) podSource(node string) source {
	only := fields.OneTermEqualSelector("spec.nodeName", node).String()
	pods := c.typed.CoreV1().Pods(metav1.NamespaceAll)
	return source{
		list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return pods.List(ctx, o)
		},
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return pods.Watch(ctx, o)
		},
	}
}

// evictions is the state of one drain: what is left, and what each pod waits for.
type evictions struct {
	helper   *drain.Helper
	progress func(string)
	slots    chan struct{}
	mu       sync.Mutex
	pods     map[string]corev1.Pod
	left     map[string]string
}

// evict asks until the eviction is accepted, the pod is gone or the context ends.
func (e *evictions) evict(ctx context.Context, key string) error {
	wait := newBackoff()
	for {
		pod, ok := e.pod(key)
		if !ok {
			return nil
		}
		select {
		case e.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		err := e.helper.EvictPod(pod, policyv1.SchemeGroupVersion)
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
		if wait.pause(ctx) != nil {
			return nil
		}
	}
}

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
		if e.progress != nil {
			e.progress("pod " + key + ": " + text)
		}
	}
}

// seen strikes off the pods that are gone, or that nobody will end any more; true when none is left.
func (e *evictions) seen(set watched, abandonAfter time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key := range maps.Clone(e.left) {
		pod, ok := set[key].(*corev1.Pod)
		switch {
		case !ok || pod.UID != e.pods[key].UID:
		case abandonAfter > 0 && pod.DeletionTimestamp != nil && time.Since(pod.DeletionTimestamp.Time) > abandonAfter:
		default:
			continue
		}
		delete(e.left, key)
		if e.progress != nil {
			e.progress("pod " + key + " is gone")
		}
	}
	return len(e.left) == 0
}

func (e *evictions) blocked() []BlockedPod {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []BlockedPod
	for _, key := range slices.Sorted(maps.Keys(e.left)) {
		ns, name, _ := strings.Cut(key, "/")
		out = append(out, BlockedPod{Namespace: ns, Name: name, Reason: e.left[key]})
	}
	return out
}

// nameBudgets finds the budgets that select the pods left behind and allow no disruption. It is only for the message, so
// that where the API server cannot be asked, the names are left out.
func (c *Client) nameBudgets(ctx context.Context, pods []BlockedPod) {
	budgets := map[string][]policyv1.PodDisruptionBudget{}
	for i := range pods {
		p := &pods[i]
		if _, ok := budgets[p.Namespace]; !ok {
			list, err := c.typed.PolicyV1().PodDisruptionBudgets(p.Namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
			if err != nil {
				return
			}
			budgets[p.Namespace] = list.Items
		}
		if len(budgets[p.Namespace]) == 0 {
			continue
		}
		pod, err := c.typed.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		if err != nil {
			continue
		}
		p.Budgets = refusing(budgets[p.Namespace], pod)
	}
}
