package datastore

import (
	"bytes"
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

// ForgetRootBundles removes what pods are told of an authority that is not the
// cluster's. Pods wait until Kubernetes publishes it anew.
func (c *Client) ForgetRootBundles(ctx context.Context, bundle []byte) error {
	return c.change(ctx, "forget what pods know of another authority", func(ctx context.Context, _ *Status) (bool, error) {
		var all []string
		err := c.ask(ctx, func(ctx context.Context, e *etcd.Conn) (err error) {
			all, err = e.Keys(ctx, namespaces)
			return err
		})
		for _, name := range all {
			if err == nil {
				err = c.ask(ctx, func(ctx context.Context, e *etcd.Conn) error {
					key := configMaps + strings.TrimPrefix(name, namespaces) + rootBundle
					value, found, err := e.Get(ctx, key)
					if err != nil || !found || bytes.Contains(value, bytes.TrimSpace(bundle)) {
						return err
					}
					return e.Delete(ctx, key)
				})
			}
		}
		return true, err
	})
}
