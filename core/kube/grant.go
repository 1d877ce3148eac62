package kube

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GrantDocument makes an empty plain document, if it is not there, and gives one user the right to read and write it and
// no other, and the rights of a Role that is there, by a binding of that name. What is there already stays as it is, so that
// the same call goes on from an error.
func (c *Client) GrantDocument(ctx context.Context, doc Document, user, role, binding string) error {
	meta := metav1.ObjectMeta{Namespace: doc.Namespace, Name: user, Labels: doc.Labels}
	group, within := errgroup.WithContext(ctx)
	group.Go(func() error {
		return made(c.typed.roles(doc.Namespace).create(within, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{doc.Name}, Verbs: []string{"get", "update", "patch"}}}}))
	})
	bind := func(meta metav1.ObjectMeta, role string) error {
		return made(c.typed.roleBindings(doc.Namespace).create(within, &rbacv1.RoleBinding{ObjectMeta: meta,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}}))
	}
	group.Go(func() error { return bind(meta, user) })
	group.Go(func() error { return bind(metav1.ObjectMeta{Namespace: doc.Namespace, Name: binding}, role) })
	err := group.Wait()
	if err == nil {
		// Last: after a write of another kind an API server lists documents only
		// when etcd has told it, up to 100 ms later, that it has missed none.
		err = made(c.typed.configMaps(doc.Namespace).create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: doc.Namespace, Name: doc.Name, Labels: doc.Labels}}))
	}
	if err != nil {
		return fmt.Errorf("let %s write %s: %w", user, doc.Name, err)
	}
	return nil
}

// made takes an object that was there for one that was made.
func made[T any](_ T, err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// RevokeDocument takes away what GrantDocument made; what is gone is no error.
func (c *Client) RevokeDocument(ctx context.Context, doc Document, user, binding string) error {
	var group errgroup.Group // each is tried, whatever becomes of the others
	gone := func(what interface {
		delete(ctx context.Context, name string, o metav1.DeleteOptions) error
	}, name string) {
		group.Go(func() error {
			if err := what.delete(ctx, name, metav1.DeleteOptions{}); !NotFound(err) {
				return err
			}
			return nil
		})
	}
	gone(c.typed.roleBindings(doc.Namespace), binding)
	gone(c.typed.roleBindings(doc.Namespace), user)
	gone(c.typed.roles(doc.Namespace), user)
	gone(c.typed.configMaps(doc.Namespace), doc.Name)
	if err := group.Wait(); err != nil {
		return fmt.Errorf("take the right of %s to %s away: %w", user, doc.Name, err)
	}
	return nil
}
