package datastore

import (
	"context"
	"strings"

	"mk8s.io/mk/core/datastore/etcd"
)

// Where the API server keeps namespaces, and what Kubernetes publishes in each
// of the cluster's authority for pods.
const (
	namespaces = "/registry/namespaces/"
	configMaps = "/registry/configmaps/"
	rootBundle = "/kube-root-ca.crt"
)

// ForgetRootBundles removes what pods are told of the cluster's authority. Pods
// wait until Kubernetes publishes it anew.
func (c *Client) ForgetRootBundles(ctx context.Context) error {
	return c.change(ctx, "forget what pods know of the authority", func(ctx context.Context, _ *Status) (bool, error) {
		return true, c.ask(ctx, func(ctx context.Context, e *etcd.Conn) error {
			keys, err := e.Keys(ctx, namespaces)
			for _, key := range keys {
				if err == nil {
					err = e.Delete(ctx, configMaps+strings.TrimPrefix(key, namespaces)+rootBundle)
				}
			}
			return err
		})
	})
}
