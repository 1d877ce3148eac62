package kube

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// lookAtOnce bounds how many objects are looked at together.
const lookAtOnce = 8

// step is what Apply will do with one object.
type step struct {
	object Object
	action Action
	// adopted objects exist and are nobody's of ours.
	adopted bool
	live    *unstructured.Unstructured
	after   *unstructured.Unstructured
	// force: every conflict is with a manager that the caller called its own.
	force    bool
	conflict []FieldConflict
}

// planner finds out, without changing anything, what applying would do.
type planner struct {
	client   *Client
	res      *resources
	inv      *inventory
	request  ApplyRequest
	steps    []*step
	declared map[schema.GroupKind]resource // by the CRDs in the request; only whether namespaced is known
	spaces   map[string]bool               // namespaces in the request
}

func (p *planner) plan(ctx context.Context) error {
	for _, o := range p.request.Objects {
		ref := o.Ref()
		if ref.Kind == "Namespace" && ref.Group == "" {
			p.spaces[ref.Name] = true
		}
		if kind, res, ok := declares(o.Unstructured); ok {
			p.declared[kind] = res
		}
	}
	p.steps = make([]*step, len(p.request.Objects))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(lookAtOnce)
	for i, o := range inOrder(p.request.Objects) {
		work.Go(func() error {
			s, err := p.look(ctx, o)
			if err != nil {
				return fmt.Errorf("%s (%s): %w", o.Ref(), o.Where(), err)
			}
			p.steps[i] = s
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	if err := p.sameObjectTwice(); err != nil {
		return err
	}
	var conflicts []FieldConflict
	for _, s := range p.steps {
		conflicts = append(conflicts, s.conflict...)
	}
	if len(conflicts) > 0 {
		return &ConflictError{Inventory: p.inv.name, Conflicts: conflicts}
	}
	return nil
}

// sameObjectTwice finds objects that are one only after their namespace was filled in.
func (p *planner) sameObjectTwice() error {
	seen := map[Ref]bool{}
	for _, s := range p.steps {
		id := s.object.Ref().identity()
		if seen[id] {
			return fmt.Errorf("%s is given twice", s.object.Ref())
		}
		seen[id] = true
	}
	return nil
}

// declares is the group and kind that a CRD brings, and whether its objects live in namespaces.
func declares(u *unstructured.Unstructured) (schema.GroupKind, resource, bool) {
	if u.GetKind() != "CustomResourceDefinition" || u.GroupVersionKind().Group != "apiextensions.k8s.io" {
		return schema.GroupKind{}, resource{}, false
	}
	group, _, _ := unstructured.NestedString(u.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(u.Object, "spec", "names", "kind")
	scope, _, _ := unstructured.NestedString(u.Object, "spec", "scope")
	return schema.GroupKind{Group: group, Kind: kind}, resource{namespaced: scope != "Cluster"}, true
}

func (p *planner) look(ctx context.Context, o Object) (*step, error) {
	o.Unstructured = o.DeepCopy()
	gvk := o.GroupVersionKind()
	res, err := p.res.find(ctx, gvk)
	if _, missing := errors.AsType[*NoKindError](err); missing {
		declared, ok := p.declared[gvk.GroupKind()]
		if !ok {
			return nil, err
		}
		p.place(o.Unstructured, declared)
		label(o.Unstructured, p.inv.name)
		return &step{object: o, action: Create}, nil
	}
	if err != nil {
		return nil, err
	}
	p.place(o.Unstructured, res)
	live, err := p.client.at(res, o.GetNamespace()).Get(ctx, o.GetName(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read what is there: %w", err)
	}
	s := &step{object: o, action: Create}
	if err != nil {
		label(o.Unstructured, p.inv.name)
		return s, p.tryCreate(ctx, res, s)
	}
	s.live = live
	if s.adopted, err = p.ownership(o.Ref(), live); err != nil {
		return nil, err
	}
	if !s.adopted {
		label(o.Unstructured, p.inv.name)
	}
	return s, p.tryUpdate(ctx, res, s)
}

// place fills in the namespace where the kind has one, and takes it off where it has none.
func (p *planner) place(u *unstructured.Unstructured, res resource) {
	switch {
	case !res.namespaced:
		u.SetNamespace("")
	case u.GetNamespace() == "":
		u.SetNamespace(p.request.Namespace)
	}
}

// ownership says whether an existing object is only adopted, and refuses one of another inventory.
func (p *planner) ownership(ref Ref, live *unstructured.Unstructured) (adopted bool, err error) {
	owner := live.GetLabels()[InventoryLabel]
	if owner != "" && owner != p.inv.name {
		if ref.Kind == "Namespace" && ref.Group == "" {
			return true, nil
		}
		return false, &OwnedError{Ref: ref, Owner: owner}
	}
	if recorded, ok := p.inv.find(ref); ok {
		return recorded.Adopted, nil
	}
	return owner != p.inv.name, nil
}

// tryCreate finds now, rather than half way through, what the server would refuse.
func (p *planner) tryCreate(ctx context.Context, res resource, s *step) error {
	if p.spaces[s.object.GetNamespace()] && res.namespaced {
		if _, err := p.client.dynamic.Resource(namespaces).Get(ctx, s.object.GetNamespace(), metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return nil // cannot be tried before its namespace is there
		}
	}
	after, err := p.client.apply(ctx, res, s.object.Unstructured, applyMode{dryRun: true})
	switch {
	case err == nil:
		s.after = after
	case cannotDryRun(err), apierrors.IsForbidden(err):
		// Admission may forbid what only the objects before this one allow: a pod before its service account.
	default:
		return fmt.Errorf("try: %w", err)
	}
	return nil
}

func (p *planner) tryUpdate(ctx context.Context, res resource, s *step) error {
	s.action = Update
	after, err := p.client.apply(ctx, res, s.object.Unstructured, applyMode{dryRun: true})
	if conflicts := conflictsOf(s.object.Ref(), err); len(conflicts) > 0 {
		if !p.ours(conflicts) {
			s.conflict = conflicts
			return nil
		}
		s.force = true
		after, err = p.client.apply(ctx, res, s.object.Unstructured, applyMode{dryRun: true, force: true})
	}
	switch {
	case err != nil && cannotDryRun(err):
		return nil
	case err != nil:
		return fmt.Errorf("try: %w", err)
	}
	s.after = after
	if same(s.live, after) {
		s.action = Unchanged
	}
	return nil
}

// ours: mk's own earlier updates, and the managers that the caller named, may be overruled.
func (p *planner) ours(conflicts []FieldConflict) bool {
	return !slices.ContainsFunc(conflicts, func(c FieldConflict) bool {
		return c.Manager != FieldManager && !slices.Contains(p.request.PreviousManagers, c.Manager)
	})
}

// cannotDryRun: a webhook in the way has side effects, so the server refuses to try.
func cannotDryRun(err error) bool {
	return apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "dry run")
}

func label(u *unstructured.Unstructured, inventory string) {
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[InventoryLabel] = inventory
	u.SetLabels(labels)
}

// same compares two states of an object. Which fields mk owns counts, when it got them does not, nor what controllers
// report in the status meanwhile.
func same(a, b *unstructured.Unstructured) bool {
	return reflect.DeepEqual(content(a), content(b))
}

func content(u *unstructured.Unstructured) map[string]any {
	c := u.DeepCopy()
	fields, _, _ := unstructured.NestedSlice(c.Object, "metadata", "managedFields")
	fields = slices.DeleteFunc(fields, func(f any) bool {
		m, ok := f.(map[string]any)
		delete(m, "time")
		return ok && m["manager"] != FieldManager
	})
	unstructured.RemoveNestedField(c.Object, "status")
	if fields != nil {
		_ = unstructured.SetNestedSlice(c.Object, fields, "metadata", "managedFields") //nolint:errcheck // metadata is a mapping: it was read from there
	}
	unstructured.RemoveNestedField(c.Object, "metadata", "resourceVersion")
	unstructured.RemoveNestedField(c.Object, "metadata", "generation")
	return c.Object
}

type applyMode struct{ dryRun, force bool }

// apply is one server-side apply.
func (c *Client) apply(ctx context.Context, res resource, u *unstructured.Unstructured, mode applyMode) (*unstructured.Unstructured, error) {
	body, err := u.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", refOf(u), err)
	}
	opts := metav1.PatchOptions{FieldManager: FieldManager, Force: &mode.force}
	if mode.dryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	return c.at(res, u.GetNamespace()).Patch(ctx, u.GetName(), types.ApplyPatchType, body, opts)
}

// conflictsOf reads the field conflicts of a refused apply.
func conflictsOf(ref Ref, err error) []FieldConflict {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var out []FieldConflict
	for _, cause := range status.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		out = append(out, FieldConflict{Ref: ref, Field: cause.Field, Manager: managerOf(cause.Message)})
	}
	return out
}

// managerOf reads `conflict with "kubectl" using apps/v1`; text of another form is given back whole.
func managerOf(message string) string {
	quoted, ok := strings.CutPrefix(message, "conflict with ")
	if !ok {
		return message
	}
	prefix, err := strconv.QuotedPrefix(quoted)
	if err != nil {
		return message
	}
	manager, err := strconv.Unquote(prefix)
	if err != nil {
		return message
	}
	return manager
}
