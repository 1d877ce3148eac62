package kube

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"mk8s.io/mk/core/timer"
)

// Action is what happens, or happened, to an object.
type Action string

// The actions. Kept objects were to go and stay: they were there before mk, or someone took mk's label off them.
const (
	Create    Action = "create"
	Update    Action = "update"
	Unchanged Action = "unchanged"
	Delete    Action = "delete"
	Gone      Action = "gone"
	Kept      Action = "kept"
)

// ApplyRequest says which objects an owner has.
type ApplyRequest struct {
	// Inventory is the owner's name: at most 63 lower-case letters, digits, dots and dashes.
	Inventory string
	Objects   []Object
	// Namespace is for objects that need one and name none; default "default".
	Namespace string
	// DryRun finds out what would happen and changes nothing.
	DryRun bool
	// Prune deletes the objects that the inventory holds and that are not among Objects any more. Without it they stay,
	// and stay recorded.
	Prune bool
	// PreviousManagers may be overruled where they own a field; everyone else's fields are a conflict.
	PreviousManagers []string
	// Progress, where given, hears of every step.
	Progress func(string)
}

// Change is what happens to one object.
type Change struct {
	Ref    Ref
	Action Action
	// Before and After are the object's states, for a diff; nil where there is none or it cannot be known.
	Before, After *unstructured.Unstructured
}

// Result lists the changes in the order in which they were made.
type Result struct{ Changes []Change }

// Changed is whether anything is or was written.
func (r Result) Changed() bool {
	return slices.ContainsFunc(r.Changes, func(c Change) bool {
		return c.Action == Create || c.Action == Update || c.Action == Delete
	})
}

// FieldConflict is a field that someone else owns.
type FieldConflict struct {
	Ref            Ref
	Field, Manager string
}

// ConflictError says which fields of which objects belong to whom. Nothing was applied.
type ConflictError struct {
	Inventory string
	Conflicts []FieldConflict
}

// Error implements error.
func (e *ConflictError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apply inventory %s: fields belong to someone else", e.Inventory)
	for _, c := range e.Conflicts {
		fmt.Fprintf(&b, "; %s %s: %q", c.Ref, c.Field, c.Manager)
	}
	return b.String()
}

// OwnedError says that an object belongs to another inventory. Nothing was applied.
type OwnedError struct {
	Ref   Ref
	Owner string
}

// Error implements error.
func (e *OwnedError) Error() string {
	return fmt.Sprintf("%s belongs to inventory %s", e.Ref, e.Owner)
}

// Apply makes the cluster hold the objects of one owner, by server-side apply. It looks at every object and tries it
// first, so that most refusals (*ConflictError, *OwnedError, *NoKindError, the server's validation) leave nothing changed.
// Then it records all objects in the inventory and applies them in the order of their kinds; CRDs are established before
// what needs them. An error half way leaves the inventory holding everything that may exist; the same call goes on from
// there. Objects that were there before, and nobody's, are adopted: they are changed, not labeled, and never deleted.
func (c *Client) Apply(ctx context.Context, request ApplyRequest) (Result, error) {
	for try := 1; ; try++ {
		result, err := c.applyOnce(ctx, request)
		if !errors.Is(err, errMeanwhile) || try == applyTries {
			return result, err
		}
		// Two nodes apply the same: the second finds it done.
		if !timer.Wait(ctx, time.Duration(try)*200*time.Millisecond) {
			return result, err
		}
	}
}

func (c *Client) applyOnce(ctx context.Context, request ApplyRequest) (Result, error) {
	if request.Namespace == "" {
		request.Namespace = metav1.NamespaceDefault
	}
	if err := checkRequest(request); err != nil {
		return Result{}, err
	}
	inv, err := c.loadInventory(ctx, request.Inventory)
	if err != nil {
		return Result{}, fmt.Errorf("apply: %w", err)
	}
	p := &planner{
		client: c, res: c.newResources(), inv: inv, request: request,
		declared: map[schema.GroupKind]resource{}, spaces: map[string]bool{},
	}
	if err := p.plan(ctx); err != nil {
		return Result{}, fmt.Errorf("apply inventory %s: %w", request.Inventory, err)
	}
	if request.DryRun {
		return p.preview(ctx)
	}
	result, err := p.execute(ctx)
	if err != nil {
		return result, fmt.Errorf("apply inventory %s: %w", request.Inventory, err)
	}
	return result, nil
}

func checkRequest(request ApplyRequest) error {
	if err := checkInventoryName(request.Inventory); err != nil {
		return err
	}
	if len(request.Objects) > ManifestObjectsMost {
		return fmt.Errorf("inventory %s: more than %d objects", request.Inventory, ManifestObjectsMost)
	}
	for _, o := range request.Objects {
		if o.Unstructured == nil {
			return fmt.Errorf("inventory %s: an object is empty", request.Inventory)
		}
		if err := checkObject(o.Unstructured); err != nil {
			return fmt.Errorf("%s: %w", o.Where(), err)
		}
	}
	return nil
}

// entries are what the inventory holds when all is applied.
func (p *planner) entries() []entry {
	entries := make([]entry, 0, len(p.steps))
	for _, s := range p.steps {
		entries = append(entries, entry{Ref: s.object.Ref(), Adopted: s.adopted})
	}
	return entries
}

func (p *planner) preview(ctx context.Context) (Result, error) {
	var result Result
	for _, s := range p.steps {
		result.Changes = append(result.Changes, s.change())
	}
	if !p.request.Prune {
		return result, nil
	}
	d := &deleter{client: p.client, res: p.res, inventory: p.inv.name, dryRun: true}
	for _, e := range slices.Concat(inReverse(p.inv.gone(p.entries()))...) {
		change, _, err := d.delete(ctx, e)
		if err != nil {
			return result, err
		}
		result.Changes = append(result.Changes, change)
	}
	return result, nil
}

func (s *step) change() Change {
	return Change{Ref: s.object.Ref(), Action: s.action, Before: s.live, After: s.after}
}

func (p *planner) execute(ctx context.Context) (Result, error) {
	var result Result
	next := p.entries()
	if err := p.client.saveInventory(ctx, p.inv, p.inv.union(next)); err != nil {
		return result, err
	}
	for _, s := range p.steps {
		if s.action != Unchanged {
			p.tell(s)
			if err := p.applyStep(ctx, s); err != nil {
				return result, fmt.Errorf("%s (%s): %w", s.object.Ref(), s.object.Where(), err)
			}
		}
		if kind, _, ok := declares(s.object.Unstructured); ok {
			if err := p.established(ctx, s, kind.Group); err != nil {
				return result, err
			}
		}
		result.Changes = append(result.Changes, s.change())
	}
	if !p.request.Prune {
		return result, p.client.saveInventory(ctx, p.inv, p.inv.union(next))
	}
	d := &deleter{client: p.client, res: p.res, inventory: p.inv.name, progress: p.request.Progress}
	for _, e := range slices.Concat(inReverse(p.inv.gone(next))...) {
		change, _, err := d.delete(ctx, e)
		if err != nil {
			return result, err
		}
		result.Changes = append(result.Changes, change)
	}
	return result, p.client.saveInventory(ctx, p.inv, next)
}

func (p *planner) tell(s *step) {
	if p.request.Progress != nil {
		p.request.Progress(string(s.action) + " " + s.object.Ref().String())
	}
}

// applyStep applies one object. A kind that was just declared may take a moment until the API server serves it, and a
// namespace until it is known to admission.
func (p *planner) applyStep(ctx context.Context, s *step) error {
	wait := newBackoff()
	for {
		after, err := p.applyOnce(ctx, s)
		if err == nil {
			s.after = after
			if s.live != nil && (s.live.GetResourceVersion() == after.GetResourceVersion() || reflect.DeepEqual(applied(s.live), applied(after))) {
				s.action = Unchanged
			}
			return nil
		}
		_, missing := errors.AsType[*NoKindError](err)
		_, young := p.declared[s.object.GroupVersionKind().GroupKind()]
		switch {
		case missing && young:
			p.res.forget(s.object.GroupVersionKind().GroupVersion())
		case apierrors.IsNotFound(err) && (young || p.spaces[s.object.GetNamespace()]):
		default:
			if conflicts := conflictsOf(s.object.Ref(), err); len(conflicts) > 0 {
				return &ConflictError{Inventory: p.inv.name, Conflicts: conflicts}
			}
			return err
		}
		if !wait.pause(ctx) {
			return ended(ctx, "apply", err)
		}
	}
}

func (p *planner) applyOnce(ctx context.Context, s *step) (*unstructured.Unstructured, error) {
	res, err := p.res.find(ctx, s.object.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	p.place(s.object.Unstructured, res)
	return p.client.apply(ctx, res, s.object.Unstructured, applyMode{force: s.force})
}

// established waits until the API server serves what the CRD declares.
func (p *planner) established(ctx context.Context, s *step, group string) error {
	if s.action != Unchanged {
		versions, _, _ := unstructured.NestedSlice(s.object.Object, "spec", "versions")
		for _, v := range versions {
			if m, ok := v.(map[string]any); ok {
				name, _ := m["name"].(string)
				p.res.forget(schema.GroupVersion{Group: group, Version: name})
			}
		}
	}
	if s.after != nil && crdHealth(s.after).Healthy {
		return nil
	}
	crd := Ref{Group: crds.Group, Version: crds.Version, Kind: "CustomResourceDefinition", Name: s.object.GetName()}
	return p.client.waitHealthy(ctx, crd, func(string) {})
}

// applied is what the API server keeps of the last apply by mk: its fields and its time, which moves only when an apply
// changes something. Controllers write the same object meanwhile, so its resource version says less.
func applied(u *unstructured.Unstructured) any {
	for _, f := range u.GetManagedFields() {
		if f.Manager == FieldManager && f.Operation == metav1.ManagedFieldsOperationApply {
			return f
		}
	}
	return u.GetResourceVersion()
}
