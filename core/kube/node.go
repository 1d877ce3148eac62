package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"mk8s.io/mk/core/revoked"
)

const roleLabelPrefix = "node-role.kubernetes.io/"

// Node is what mk shows and uses of a node.
type Node struct {
	Name  string
	UID   string
	Roles []string
	// Ready is whether the condition Ready is true; Reason says why not.
	Ready         bool
	Reason        string
	Unschedulable bool
	Addresses     []NodeAddress
	// Version is the kubelet's.
	Version    string
	Conditions []NodeCondition
	Labels     map[string]string
	Taints     []Taint
	Created    time.Time
}

// NodeAddress is one address of a node; Type is Kubernetes' word (InternalIP, Hostname, ...).
type NodeAddress struct{ Type, Address string }

// NodeCondition is one condition as the node reports it.
type NodeCondition struct {
	Type, Status, Reason, Message string
	Since                         time.Time
}

// Taint keeps pods off a node; Effect is Kubernetes' word (NoSchedule, PreferNoSchedule, NoExecute).
type Taint struct{ Key, Value, Effect string }

// Nodes lists the cluster's nodes by name.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	// Version 0: whatever the API server has in memory, so that this answers while etcd does not.
	list, err := c.typed.nodes().all(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	nodes := make([]Node, 0, len(list.Items))
	for i := range list.Items {
		nodes = append(nodes, nodeFrom(&list.Items[i]))
	}
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return nodes, nil
}

// Node reads one node. A node that does not exist is an error for which NotFound is true.
func (c *Client) Node(ctx context.Context, name string) (Node, error) {
	node, err := c.typed.nodes().get(ctx, name)
	if err != nil {
		return Node{}, fmt.Errorf("read node %s: %w", name, err)
	}
	return nodeFrom(node), nil
}

// NotFound is true for an error that says that the object does not exist.
func NotFound(err error) bool { return apierrors.IsNotFound(err) }

// Conflict is true for an error that says that an object changed since it was read, or exists already.
func Conflict(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }

// Silent is true for an error that says that nobody answered, or that the API server could not ask its datastore: later
// there may be an answer.
func Silent(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		code := status.Status().Code
		return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
	}
	if _, notReady := errors.AsType[*NotReadyError](err); notReady {
		return true
	}
	_, unanswered := errors.AsType[*url.Error](err)
	// An answer that breaks off is none.
	return unanswered || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF)
}

// WaitNodeRefused waits until the API server denies everything to the kubelet of a node, or no longer does. It learns of a
// removal and of a return some time after that was written.
func (c *Client) WaitNodeRefused(ctx context.Context, name string, refused bool) error {
	reviews := c.dynamic.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews"})
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": map[string]any{"user": revoked.KubeletUser + name, "groups": []any{nodesGroup, "system:authenticated"},
			"nonResourceAttributes": map[string]any{"path": "/version", "verb": "get"}}, // which everybody else may
	}}
	wait := newBackoff()
	for {
		answer, err := reviews.Create(ctx, review, metav1.CreateOptions{})
		if err == nil {
			if denied, _, _ := unstructured.NestedBool(answer.Object, "status", "denied"); denied == refused {
				return nil
			}
		}
		var answered apierrors.APIStatus
		if later := errors.As(err, &answered) && Silent(err); err != nil && !later {
			return fmt.Errorf("ask whether the node %s is refused: %w", name, err)
		}
		wait.next = min(wait.next, 200*time.Millisecond)
		if !wait.pause(ctx) {
			return ended(ctx, "wait until the node "+name+map[bool]string{true: " is refused", false: " is let in"}[refused], err)
		}
	}
}

func nodeFrom(n *corev1.Node) Node {
	node := Node{
		Name: n.Name, UID: string(n.UID), Unschedulable: n.Spec.Unschedulable,
		Version: n.Status.NodeInfo.KubeletVersion, Labels: n.Labels, Created: n.CreationTimestamp.Time,
	}
	node.Ready, node.Reason = nodeReadiness(n)
	for label := range n.Labels {
		if role, ok := strings.CutPrefix(label, roleLabelPrefix); ok && role != "" {
			node.Roles = append(node.Roles, role)
		}
	}
	slices.Sort(node.Roles)
	for _, a := range n.Status.Addresses {
		node.Addresses = append(node.Addresses, NodeAddress{Type: string(a.Type), Address: a.Address})
	}
	for _, cond := range n.Status.Conditions {
		node.Conditions = append(node.Conditions, NodeCondition{
			Type: string(cond.Type), Status: string(cond.Status), Reason: cond.Reason, Message: cond.Message,
			Since: cond.LastTransitionTime.Time,
		})
	}
	for _, t := range n.Spec.Taints {
		node.Taints = append(node.Taints, Taint{Key: t.Key, Value: t.Value, Effect: string(t.Effect)})
	}
	return node
}

// Cordon keeps new pods off the node; it changes nothing where that is already so.
func (c *Client) Cordon(ctx context.Context, name string) error {
	return c.setUnschedulable(ctx, name, true)
}

// Uncordon lets pods onto the node again; it changes nothing where that is already so.
func (c *Client) Uncordon(ctx context.Context, name string) error {
	return c.setUnschedulable(ctx, name, false)
}

func (c *Client) setUnschedulable(ctx context.Context, name string, want bool) error {
	what := "uncordon"
	if want {
		what = "cordon"
	}
	return c.changeNode(ctx, name, what, func(n *corev1.Node) bool {
		if n.Spec.Unschedulable == want {
			return false
		}
		n.Spec.Unschedulable = want
		return true
	})
}

// changeNode patches the difference that change makes; only what change touched is sent, guarded by the version that was
// read, and it is tried again where somebody else was faster.
func (c *Client) changeNode(ctx context.Context, name, what string, change func(*corev1.Node) bool) error {
	nodes := c.typed.nodes()
	wait := newBackoff()
	for {
		node, err := nodes.get(ctx, name)
		if err != nil {
			return fmt.Errorf("%s node %s: %w", what, name, err)
		}
		if !change(node) {
			return nil
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"resourceVersion": node.ResourceVersion, "uid": node.UID, "labels": labelPatch(node)},
			"spec":     map[string]any{"unschedulable": unschedulablePatch(node), "taints": node.Spec.Taints},
		})
		if err != nil {
			return fmt.Errorf("%s node %s: %w", what, name, err)
		}
		err = nodes.merge(ctx, name, patch)
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) {
			return fmt.Errorf("%s node %s: %w", what, name, err)
		}
		if !wait.pause(ctx) {
			return ended(ctx, what+" node "+name, err)
		}
	}
}

// unschedulablePatch is null instead of false, as the API server itself leaves the field out.
func unschedulablePatch(node *corev1.Node) any {
	if node.Spec.Unschedulable {
		return true
	}
	return nil
}

// labelPatch turns the empty-valued removal markers of SetLabels into nulls.
func labelPatch(node *corev1.Node) map[string]any {
	out := make(map[string]any, len(node.Labels))
	for k, v := range node.Labels {
		if v == removedLabel {
			out[k] = nil
			continue
		}
		out[k] = v
	}
	return out
}

// removedLabel cannot be the value of a label.
const removedLabel = "\x00"

// SetLabels sets and removes labels of a node. It changes nothing where all is already so.
func (c *Client) SetLabels(ctx context.Context, name string, set map[string]string, remove []string) error {
	return c.changeNode(ctx, name, "label", func(n *corev1.Node) bool {
		changed := false
		for k, v := range set {
			if old, ok := n.Labels[k]; ok && old == v {
				continue
			}
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			n.Labels[k], changed = v, true
		}
		for _, k := range remove {
			if _, ok := n.Labels[k]; ok {
				n.Labels[k], changed = removedLabel, true
			}
		}
		return changed
	})
}

// SetTaints sets taints, where key and effect say which one, and removes those named by remove (all effects where its
// Effect is empty). Other taints stay. It changes nothing where all is already so.
func (c *Client) SetTaints(ctx context.Context, name string, set, remove []Taint) error {
	return c.changeNode(ctx, name, "taint", func(n *corev1.Node) bool {
		next := slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(have corev1.Taint) bool {
			return slices.ContainsFunc(remove, func(t Taint) bool {
				return t.Key == have.Key && (t.Effect == "" || t.Effect == string(have.Effect))
			})
		})
		for _, t := range set {
			want := corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)}
			i := slices.IndexFunc(next, func(have corev1.Taint) bool { return have.Key == t.Key && have.Effect == want.Effect })
			switch {
			case i < 0:
				next = append(next, want)
			case next[i].Value != want.Value:
				next[i] = want
			}
		}
		if slices.Equal(next, n.Spec.Taints) {
			return false
		}
		n.Spec.Taints = next
		return true
	})
}

// DeleteNode removes the node's object. A node that is already gone is no error; pods bound to it are the cluster's to
// collect.
func (c *Client) DeleteNode(ctx context.Context, name string) error {
	if name == "" {
		return errors.New("delete node: no name given")
	}
	err := c.typed.nodes().delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete node %s: %w", name, err)
	}
	return nil
}
