package kube

import (
	"context"
	"errors"
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
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return made(c.typed.configMaps(doc.Namespace).create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: doc.Namespace, Name: doc.Name, Labels: doc.Labels}}))
	})
	group.Go(func() error {
		return made(c.typed.roles(doc.Namespace).create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{doc.Name}, Verbs: []string{"get", "update", "patch"}}}}))
	})
	bind := func(meta metav1.ObjectMeta, role string) error {
		return made(c.typed.roleBindings(doc.Namespace).create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}}))
	}
	group.Go(func() error { return bind(meta, user) })
	group.Go(func() error { return bind(metav1.ObjectMeta{Namespace: doc.Namespace, Name: binding}, role) })
	if err := group.Wait(); err != nil {
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

// RevokeRole takes away a binding that GrantDocument made; what is gone is no error.
func (c *Client) RevokeRole(ctx context.Context, namespace, binding string) error {
	if err := c.typed.roleBindings(namespace).delete(ctx, binding, metav1.DeleteOptions{}); err != nil && !NotFound(err) {
		return fmt.Errorf("take the role of %s away: %w", binding, err)
	}
	return nil
}

// RevokeDocument takes away what GrantDocument made; what is gone is no error.
func (c *Client) RevokeDocument(ctx context.Context, doc Document, user string) error {
	var errs []error
	for _, err := range []error{
		c.typed.roleBindings(doc.Namespace).delete(ctx, user, metav1.DeleteOptions{}),
		c.typed.roles(doc.Namespace).delete(ctx, user, metav1.DeleteOptions{}),
		c.typed.configMaps(doc.Namespace).delete(ctx, doc.Name, metav1.DeleteOptions{}),
	} {
		if err != nil && !NotFound(err) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take the right of %s to %s away: %w", user, doc.Name, err)
	}
	return nil
}
