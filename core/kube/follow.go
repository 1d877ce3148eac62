package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"mk8s.io/mk/core/timer"
)

const (
	// attemptTimeout ends one question to a server that accepts and never answers, so that another connection is tried.
	attemptTimeout = 10 * time.Second
	// watchSeconds is how long one watch lives; its client gives up a little later, for a server that froze meanwhile. One
	// whose process is frozen is found sooner, by the pings of HTTP/2.
	watchSeconds = 300
	watchGrace   = 10 * time.Second
	listPage     = 500
)

// source is where follow looks: usually two methods of a typed or dynamic client, narrowed by the same selectors.
type source struct {
	list  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error)
	watch func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

// watched is the set of objects that follow keeps, by namespace/name.
type watched map[string]runtime.Object

// observer tells follow what to do with what it sees.
type observer struct {
	// see is called after every list and every event with the whole set and the keys that changed; true ends follow.
	see func(set watched, changed []string) (bool, error)
	// trouble, where given, hears why the server cannot be asked; follow tries again.
	trouble func(err error)
	// fatal, where given, says which of these errors end follow.
	fatal func(err error) bool
}

// follow lists, then watches, then lists again when the watch ends, until the observer is done or the context ends. Errors
// of the server are waited out with backoff.
func follow(ctx context.Context, src source, obs observer) error {
	wait := newBackoff()
	var last error
	for {
		done, err := followOnce(ctx, src, obs.see, wait.reset)
		stop, told := errors.AsType[*observerError](err)
		switch {
		case told:
			return stop.err
		case done:
			return nil
		case ctx.Err() != nil:
			return ended(ctx, "watch", last)
		}
		if err != nil {
			last = err
			if obs.fatal != nil && obs.fatal(err) {
				return err
			}
			if obs.trouble != nil {
				obs.trouble(err)
			}
			if !wait.pause(ctx) {
				return ended(ctx, "watch", last)
			}
		}
	}
}

// observerError is an error of the observer, which ends follow, as against one of the server.
type observerError struct{ err error }

func (e *observerError) Error() string { return e.err.Error() }

func followOnce(ctx context.Context, src source, see func(watched, []string) (bool, error), worked func()) (bool, error) {
	set, version, err := listAll(ctx, src)
	if err != nil {
		return false, err
	}
	if done, err := see(set, slices.Collect(maps.Keys(set))); err != nil {
		return false, &observerError{err}
	} else if done {
		return true, nil
	}
	worked()
	return watchFrom(ctx, src, set, version, see)
}

func listAll(ctx context.Context, src source) (watched, string, error) {
	set := watched{}
	o := metav1.ListOptions{Limit: listPage}
	for {
		list, err := listPageOf(ctx, src, o)
		if err != nil {
			return nil, "", err
		}
		err = meta.EachListItem(list, func(obj runtime.Object) error {
			key, err := keyOf(obj)
			if err != nil {
				return err
			}
			set[key] = obj
			return nil
		})
		if err != nil {
			return nil, "", fmt.Errorf("read a list: %w", err)
		}
		accessor, err := meta.ListAccessor(list)
		if err != nil {
			return nil, "", fmt.Errorf("read a list: %w", err)
		}
		if accessor.GetContinue() == "" {
			return set, accessor.GetResourceVersion(), nil
		}
		o.Continue = accessor.GetContinue()
	}
}

func listPageOf(ctx context.Context, src source, o metav1.ListOptions) (runtime.Object, error) {
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return src.list(attempt, o)
}

func watchFrom(ctx context.Context, src source, set watched, version string, see func(watched, []string) (bool, error)) (bool, error) {
	attempt, cancel := context.WithTimeout(ctx, watchSeconds*time.Second+watchGrace)
	defer cancel()
	opening := time.AfterFunc(attemptTimeout, cancel)
	seconds := int64(watchSeconds)
	w, err := src.watch(attempt, metav1.ListOptions{ResourceVersion: version, TimeoutSeconds: &seconds})
	opening.Stop()
	if err != nil {
		if ctx.Err() == nil && attempt.Err() != nil {
			return false, fmt.Errorf("the API server did not answer a watch within %s: %w", attemptTimeout, err)
		}
		return false, err
	}
	defer w.Stop()
	for {
		select {
		case <-attempt.Done():
			return false, nil
		case event, open := <-w.ResultChan():
			if !open {
				return false, nil
			}
			if event.Type == watch.Error {
				return false, apierrors.FromObject(event.Object)
			}
			key, err := keyOf(event.Object)
			if err != nil {
				return false, err
			}
			if event.Type == watch.Deleted {
				delete(set, key)
			} else {
				set[key] = event.Object
			}
			if done, err := see(set, []string{key}); err != nil {
				return false, &observerError{err}
			} else if done {
				return true, nil
			}
		}
	}
}

func keyOf(obj runtime.Object) (string, error) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return "", fmt.Errorf("read an object: %w", err)
	}
	return accessor.GetNamespace() + "/" + accessor.GetName(), nil
}

// backoff waits a little longer after each failure.
type backoff struct{ next time.Duration }

const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 2 * time.Second
)

func newBackoff() *backoff { return &backoff{next: backoffFirst} }

func (b *backoff) reset() { b.next = backoffFirst }

// pause waits; false says that the context ended before.
func (b *backoff) pause(ctx context.Context) bool {
	d := b.next
	b.next = min(b.next*2, backoffMost)
	return timer.Wait(ctx, d)
}
