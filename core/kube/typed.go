package kube

import (
	"context"
	"fmt"
	"net/http"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// apis are the kinds that mk knows by type, through client-go's REST client. client-go's own set of clients registers
// every API of Kubernetes before main, which costs each start of mk more than all that it asks.
type apis struct {
	params                          runtime.ParameterCodec
	core, certs, discovery, granted *rest.RESTClient
}

func newAPIs(config *rest.Config, client *http.Client) (*apis, error) {
	scheme := runtime.NewScheme()
	known := map[schema.GroupVersion][]runtime.Object{
		corev1.SchemeGroupVersion: {
			&corev1.Node{}, &corev1.NodeList{}, &corev1.Pod{}, &corev1.PodList{}, &corev1.Event{}, &corev1.EventList{},
			&corev1.ConfigMap{}, &corev1.ConfigMapList{}, &corev1.Secret{}, &corev1.SecretList{}, &corev1.Namespace{}, &corev1.NamespaceList{},
		},
		certv1.SchemeGroupVersion:      {&certv1.CertificateSigningRequest{}, &certv1.CertificateSigningRequestList{}},
		discoveryv1.SchemeGroupVersion: {&discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{}},
		rbacv1.SchemeGroupVersion:      {&rbacv1.Role{}, &rbacv1.RoleList{}, &rbacv1.RoleBinding{}, &rbacv1.RoleBindingList{}},
	}
	for gv, objects := range known {
		scheme.AddKnownTypes(gv, objects...)
		metav1.AddToGroupVersion(scheme, gv)
	}
	shared := rest.CopyConfig(config)
	shared.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if shared.QPS > 0 {
		shared.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(shared.QPS, shared.Burst)
	}
	t := &apis{params: runtime.NewParameterCodec(scheme)}
	for gv, to := range map[schema.GroupVersion]**rest.RESTClient{
		corev1.SchemeGroupVersion: &t.core, certv1.SchemeGroupVersion: &t.certs,
		discoveryv1.SchemeGroupVersion: &t.discovery, rbacv1.SchemeGroupVersion: &t.granted,
	} {
		own := rest.CopyConfig(shared)
		own.GroupVersion, own.APIPath = &gv, "/apis"
		if gv.Group == "" {
			own.APIPath = "/api"
		}
		made, err := rest.RESTClientForConfigAndClient(own, client)
		if err != nil {
			return nil, fmt.Errorf("prepare a client of %s: %w", gv, err)
		}
		*to = made
	}
	return t, nil
}

// kind reads and writes the objects of one kind, in one namespace, or in all where it is empty.
type kind[T, L runtime.Object] struct {
	client            *rest.RESTClient
	params            runtime.ParameterCodec
	plural, namespace string
	object            func() T
	list              func() L
}

func kindOf[T, L runtime.Object](t *apis, client *rest.RESTClient, plural, namespace string, object func() T, list func() L) kind[T, L] {
	return kind[T, L]{client, t.params, plural, namespace, object, list}
}

func (t *apis) nodes() kind[*corev1.Node, *corev1.NodeList] {
	return kindOf(t, t.core, "nodes", "", func() *corev1.Node { return &corev1.Node{} }, func() *corev1.NodeList { return &corev1.NodeList{} })
}

func (t *apis) namespaces() kind[*corev1.Namespace, *corev1.NamespaceList] {
	return kindOf(t, t.core, "namespaces", "", func() *corev1.Namespace { return &corev1.Namespace{} }, func() *corev1.NamespaceList { return &corev1.NamespaceList{} })
}

func (t *apis) pods() kind[*corev1.Pod, *corev1.PodList] {
	return kindOf(t, t.core, "pods", "", func() *corev1.Pod { return &corev1.Pod{} }, func() *corev1.PodList { return &corev1.PodList{} })
}

func (t *apis) events() kind[*corev1.Event, *corev1.EventList] {
	return kindOf(t, t.core, "events", "", func() *corev1.Event { return &corev1.Event{} }, func() *corev1.EventList { return &corev1.EventList{} })
}

func (t *apis) configMaps(namespace string) kind[*corev1.ConfigMap, *corev1.ConfigMapList] {
	return kindOf(t, t.core, "configmaps", namespace, func() *corev1.ConfigMap { return &corev1.ConfigMap{} }, func() *corev1.ConfigMapList { return &corev1.ConfigMapList{} })
}

func (t *apis) secrets(namespace string) kind[*corev1.Secret, *corev1.SecretList] {
	return kindOf(t, t.core, "secrets", namespace, func() *corev1.Secret { return &corev1.Secret{} }, func() *corev1.SecretList { return &corev1.SecretList{} })
}

func (t *apis) requests() kind[*certv1.CertificateSigningRequest, *certv1.CertificateSigningRequestList] {
	return kindOf(t, t.certs, "certificatesigningrequests", "",
		func() *certv1.CertificateSigningRequest { return &certv1.CertificateSigningRequest{} },
		func() *certv1.CertificateSigningRequestList { return &certv1.CertificateSigningRequestList{} })
}

func (t *apis) endpointSlices(namespace string) kind[*discoveryv1.EndpointSlice, *discoveryv1.EndpointSliceList] {
	return kindOf(t, t.discovery, "endpointslices", namespace,
		func() *discoveryv1.EndpointSlice { return &discoveryv1.EndpointSlice{} },
		func() *discoveryv1.EndpointSliceList { return &discoveryv1.EndpointSliceList{} })
}

func (t *apis) roles(namespace string) kind[*rbacv1.Role, *rbacv1.RoleList] {
	return kindOf(t, t.granted, "roles", namespace, func() *rbacv1.Role { return &rbacv1.Role{} }, func() *rbacv1.RoleList { return &rbacv1.RoleList{} })
}

func (t *apis) roleBindings(namespace string) kind[*rbacv1.RoleBinding, *rbacv1.RoleBindingList] {
	return kindOf(t, t.granted, "rolebindings", namespace, func() *rbacv1.RoleBinding { return &rbacv1.RoleBinding{} }, func() *rbacv1.RoleBindingList { return &rbacv1.RoleBindingList{} })
}

func (k kind[T, L]) to(r *rest.Request) *rest.Request {
	return r.NamespaceIfScoped(k.namespace, k.namespace != "").Resource(k.plural)
}

func (k kind[T, L]) ask(r *rest.Request, options runtime.Object) *rest.Request {
	return k.to(r).VersionedParams(options, k.params)
}

func (k kind[T, L]) into(ctx context.Context, r *rest.Request) (T, error) {
	out := k.object()
	return out, r.Do(ctx).Into(out)
}

func (k kind[T, L]) get(ctx context.Context, name string) (T, error) {
	return k.into(ctx, k.ask(k.client.Get(), &metav1.GetOptions{}).Name(name))
}

func (k kind[T, L]) all(ctx context.Context, o metav1.ListOptions) (L, error) {
	out := k.list()
	return out, k.ask(k.client.Get(), &o).Timeout(seconds(o)).Do(ctx).Into(out)
}

func (k kind[T, L]) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	return k.ask(k.client.Get(), &o).Timeout(seconds(o)).Watch(ctx)
}

func seconds(o metav1.ListOptions) time.Duration {
	if o.TimeoutSeconds == nil {
		return 0
	}
	return time.Duration(*o.TimeoutSeconds) * time.Second
}

func (k kind[T, L]) create(ctx context.Context, object T) (T, error) {
	return k.into(ctx, k.ask(k.client.Post(), &metav1.CreateOptions{FieldManager: FieldManager}).Body(object))
}

// update replaces an object, or the part of it that a subresource names.
func (k kind[T, L]) update(ctx context.Context, name string, object T, part ...string) (T, error) {
	return k.into(ctx, k.ask(k.client.Put(), &metav1.UpdateOptions{FieldManager: FieldManager}).Name(name).SubResource(part...).Body(object))
}

// write creates an object whose meta has no version, and replaces one that has.
func (k kind[T, L]) write(ctx context.Context, meta metav1.ObjectMeta, object T) (T, error) {
	if meta.ResourceVersion == "" {
		return k.create(ctx, object)
	}
	return k.update(ctx, meta.Name, object)
}

func (k kind[T, L]) merge(ctx context.Context, name string, patch []byte) error {
	return k.ask(k.client.Patch(types.MergePatchType), &metav1.PatchOptions{FieldManager: FieldManager}).Name(name).Body(patch).Do(ctx).Error()
}

func (k kind[T, L]) delete(ctx context.Context, name string, o metav1.DeleteOptions) error {
	return k.to(k.client.Delete()).Name(name).Body(&o).Do(ctx).Error()
}

// source looks at the objects that the selectors of narrow leave.
func (k kind[T, L]) source(narrow metav1.ListOptions) source { return narrowed(k.all, k.watch, narrow) }

// narrowed is a source of some of what is listed and watched.
func narrowed[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error),
	watcher func(context.Context, metav1.ListOptions) (watch.Interface, error), narrow metav1.ListOptions) source {
	with := func(o metav1.ListOptions) metav1.ListOptions {
		o.FieldSelector, o.LabelSelector = narrow.FieldSelector, narrow.LabelSelector
		return o
	}
	return source{
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, with(o)) },
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return watcher(ctx, with(o)) },
	}
}
