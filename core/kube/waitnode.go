package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// freshLimit is how long a node that says Ready may do so from before: its kubelet has started, and tells so when it
// answers at all. After that it is taken at its word, for clocks are set now and then.
const freshLimit = 15 * time.Second

var errOldWord = errors.New("the node's word is from before")

// WaitNode waits until the named node is registered and its condition Ready is true, or the context ends. What its kubelet
// told before since, when it started, is waited out: a kubelet that starts again finds its node Ready as it left it, and
// makes it NotReady for a moment. It watches; an API server that is not there yet is waited for. progress, which may be
// nil, hears which condition is missing and what the node says about it, whenever that changes; the error at the end of
// the context says the same.
func (c *Client) WaitNode(ctx context.Context, name string, since time.Time, progress func(string)) error {
	return c.waitNode(ctx, name, since, freshLimit, progress)
}

func (c *Client) waitNode(ctx context.Context, name string, since time.Time, limit time.Duration, progress func(string)) error {
	tell := onChange(progress)
	only := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
	state := "node " + name + " has not registered"
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	old := time.AfterFunc(time.Hour, func() { stop(errOldWord) })
	old.Stop()
	defer old.Stop()
	waits := false
	err := follow(inner, c.typed.nodes().source(only), observer{
		see: func(set watched, _ []string) (bool, error) {
			node, ok := set["/"+name].(*corev1.Node)
			ready, fresh := false, false
			if state = "node " + name + " has not registered"; ok {
				ready, state = nodeReadiness(node)
				fresh = !heard(node).Before(since.Truncate(time.Second)) // the API has whole seconds
			}
			if ready && fresh {
				return true, nil
			}
			if ready {
				state = "the kubelet of node " + name + " has not reported since it started"
			}
			if ready && !waits {
				old.Reset(limit)
			} else if !ready {
				old.Stop()
			}
			waits = ready
			tell("waiting: " + state)
			return false, nil
		},
		trouble: func(err error) {
			tell("waiting for the API server: " + err.Error())
		},
	})
	if err != nil && errors.Is(context.Cause(inner), errOldWord) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for node %s (%s): %w", name, state, err)
	}
	return nil
}

// heard is when a node's kubelet last reported whether it is ready.
func heard(node *corev1.Node) time.Time {
	for _, cond := range node.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.LastHeartbeatTime.Time
		}
	}
	return time.Time{}
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
