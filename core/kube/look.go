package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Object reads one object that lies in no namespace. One that does not exist
// is an error for which NotFound is true.
func (c *Client) Object(ctx context.Context, of schema.GroupVersionResource, name string) (*unstructured.Unstructured, error) {
	u, err := c.dynamic.Resource(of).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", of.Resource, name, err)
	}
	return u, nil
}

// MakeNamespace makes a namespace; one that is there already is left as it is.
func (c *Client) MakeNamespace(ctx context.Context, name string) error {
	_, err := c.typed.namespaces().create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if err != nil && !Conflict(err) {
		return fmt.Errorf("make the namespace %s: %w", name, err)
	}
	return nil
}

// Pods lists pods of all namespaces, at most so many.
func (c *Client) Pods(ctx context.Context, most int64) ([]corev1.Pod, error) {
	list, err := c.typed.pods().all(ctx, metav1.ListOptions{Limit: most})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return list.Items, nil
}

// Events lists events of all namespaces, at most so many.
func (c *Client) Events(ctx context.Context, most int64) ([]corev1.Event, error) {
	list, err := c.typed.events().all(ctx, metav1.ListOptions{Limit: most})
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return list.Items, nil
}
