package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// WaitNode waits until the named node is registered and its condition Ready is true, or the context ends. It watches; an
// API server that is not there yet is waited for. progress, which may be nil, hears which condition is missing and what
// the node says about it, whenever that changes; the error at the end of the context says the same.
func (c *Client) WaitNode(ctx context.Context, name string, progress func(string)) error {
	tell := onChange(progress)
	only := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
	state := "node " + name + " has not registered"
	err := follow(ctx, c.typed.nodes().source(only), observer{
		see: func(set watched, _ []string) (bool, error) {
			node, ok := set["/"+name].(*corev1.Node)
			if !ok {
				state = "node " + name + " has not registered"
			} else {
				var ready bool
				if ready, state = nodeReadiness(node); ready {
					return true, nil
				}
			}
			tell("waiting: " + state)
			return false, nil
		},
		trouble: func(err error) {
			tell("waiting for the API server: " + err.Error())
		},
	})
	if err != nil {
		return fmt.Errorf("wait for node %s (%s): %w", name, state, err)
	}
	return nil
}

// WaitRegistered waits until there is an object of the named node, or the context ends. progress is as in WaitNode.
func (c *Client) WaitRegistered(ctx context.Context, name string, progress func(string)) error {
	tell := onChange(progress)
	tell("waiting: node " + name + " has not registered")
	only := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
	err := follow(ctx, c.typed.nodes().source(only), observer{
		see: func(set watched, _ []string) (bool, error) {
			_, ok := set["/"+name]
			return ok, nil
		},
		trouble: func(err error) { tell("waiting for the API server: " + err.Error()) },
	})
	if err != nil {
		return fmt.Errorf("wait for node %s to register: %w", name, err)
	}
	return nil
}

// nodeReadiness says whether a node is ready, and if not, which condition says so, with its reason and message.
func nodeReadiness(node *corev1.Node) (bool, string) {
	for _, cond := range node.Status.Conditions {
		if cond.Type != corev1.NodeReady {
			continue
		}
		if cond.Status == corev1.ConditionTrue {
			return true, ""
		}
		text := fmt.Sprintf("node %s: condition Ready is %s", node.Name, cond.Status)
		if cond.Reason != "" {
			text += " (" + cond.Reason + ")"
		}
		if cond.Message != "" {
			text += ": " + cond.Message
		}
		return false, text
	}
	return false, "node " + node.Name + " has not reported its condition Ready"
}
