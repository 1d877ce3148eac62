package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// DeleteOptions change Delete; the zero value works.
type DeleteOptions struct {
	// DryRun lists what would go and changes nothing.
	DryRun bool
	// Progress, where given, hears of every step.
	Progress func(string)
}

// StuckError says which object did not end before the context did, and what holds it.
type StuckError struct {
	Ref        Ref
	Finalizers []string
	Err        error
}

// Error implements error.
func (e *StuckError) Error() string {
	text := fmt.Sprintf("%s has not ended", e.Ref)
	if len(e.Finalizers) > 0 {
		text += ", finalizers " + strings.Join(e.Finalizers, ", ")
	}
	return text + ": " + e.Err.Error()
}

// Unwrap gives what ended the waiting.
func (e *StuckError) Unwrap() error { return e.Err }

// Delete removes the objects of an inventory, in the reverse order of Apply, each kind gone before the next is begun, and
// then the inventory. Objects that are gone already, and kinds that are not served any more, are no error; adopted objects
// and those that lost the inventory's label stay (Kept). An error leaves the inventory as it is: the same call goes on.
func (c *Client) Delete(ctx context.Context, name string, opts DeleteOptions) (Result, error) {
	inv, err := c.loadInventory(ctx, name)
	if err != nil {
		return Result{}, fmt.Errorf("delete: %w", err)
	}
	d := &deleter{client: c, res: c.newResources(), inventory: name, dryRun: opts.DryRun, progress: opts.Progress}
	var result Result
	for _, group := range inReverse(inv.entries) {
		var waiting []doomed
		for _, e := range group {
			change, doom, err := d.delete(ctx, e)
			if err != nil {
				return result, fmt.Errorf("delete inventory %s: %w", name, err)
			}
			result.Changes = append(result.Changes, change)
			if doom != nil {
				waiting = append(waiting, *doom)
			}
		}
		for _, doom := range waiting {
			if err := d.waitGone(ctx, doom); err != nil {
				return result, fmt.Errorf("delete inventory %s: %w", name, err)
			}
		}
	}
	if opts.DryRun || inv.doc.Version == "" {
		return result, nil
	}
	if err := c.DeleteDocument(ctx, inv.doc); err != nil {
		return result, fmt.Errorf("delete inventory %s: %w", name, err)
	}
	return result, nil
}

type deleter struct {
	client    *Client
	res       *resources
	inventory string
	dryRun    bool
	progress  func(string)
}

// doomed is an object whose deletion has begun.
type doomed struct {
	ref Ref
	res resource
	uid types.UID
}

// delete begins the deletion of one object that carries the inventory's label.
func (d *deleter) delete(ctx context.Context, e entry) (Change, *doomed, error) {
	change := Change{Ref: e.Ref, Action: Gone}
	res, err := d.res.find(ctx, e.GVK())
	if _, missing := errors.AsType[*NoKindError](err); missing {
		return change, nil, nil
	}
	if err != nil {
		return change, nil, err
	}
	at := d.client.at(res, e.Namespace)
	live, err := at.Get(ctx, e.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return change, nil, nil
	}
	if err != nil {
		return change, nil, fmt.Errorf("%s: %w", e.Ref, err)
	}
	change.Before = live
	if e.Adopted || live.GetLabels()[InventoryLabel] != d.inventory {
		change.Action = Kept
		return change, nil, nil
	}
	change.Action = Delete
	if d.progress != nil {
		d.progress("delete " + e.String())
	}
	uid := live.GetUID()
	background := metav1.DeletePropagationBackground
	opts := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background}
	if d.dryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	err = at.Delete(ctx, e.Name, opts)
	switch {
	case apierrors.IsNotFound(err):
		change.Action = Gone
		return change, nil, nil
	case apierrors.IsConflict(err):
		return change, nil, fmt.Errorf("%s was replaced by someone else while it was deleted: %w", e.Ref, err)
	case err != nil:
		return change, nil, fmt.Errorf("%s: %w", e.Ref, err)
	case d.dryRun:
		return change, nil, nil // it stays: to wait for its end would take for ever
	}
	return change, &doomed{ref: e.Ref, res: res, uid: uid}, nil
}

// waitGone waits until this very object is gone; another one under its name is not waited for.
func (d *deleter) waitGone(ctx context.Context, doom doomed) error {
	var finalizers []string
	err := follow(ctx, d.client.oneObject(doom.res, doom.ref.Namespace, doom.ref.Name), observer{
		see: func(set watched, _ []string) (bool, error) {
			live, ok := set[d.key(doom)].(*unstructured.Unstructured)
			if !ok || live.GetUID() != doom.uid {
				return true, nil
			}
			finalizers = live.GetFinalizers()
			return false, nil
		},
		fatal: apierrors.IsNotFound,
	})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return &StuckError{Ref: doom.ref, Finalizers: finalizers, Err: err}
}

func (d *deleter) key(doom doomed) string {
	if !doom.res.namespaced {
		return "/" + doom.ref.Name
	}
	return doom.ref.Namespace + "/" + doom.ref.Name
}

// oneObject is a source of one object by name.
func (c *Client) oneObject(res resource, namespace, name string) source {
	at := c.at(res, namespace)
	return narrowed(at.List, at.Watch, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
}
