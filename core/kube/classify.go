package kube

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Class is how much damage an object's author could do by it.
type Class string

// The classes: Contained objects cannot make their author more powerful than the namespaces they are in; RootEquivalent
// ones can make it root on a node or cluster-admin.
const (
	Contained      Class = "contained"
	RootEquivalent Class = "root-equivalent"
)

// Verdict is an object's class and, for a root-equivalent one, why.
type Verdict struct {
	Class   Class
	Reasons []string
}

// Classifier judges manifests. It needs no API server and is safe for concurrent use.
type Classifier struct {
	pods    policy.Evaluator
	granted []string
}

// NewClassifier prepares the checks of Pod Security baseline, in their newest version. That an object is in one of the
// granted namespaces is no reason: who granted them knew what they are.
func NewClassifier(granted ...string) (*Classifier, error) {
	pods, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("prepare the Pod Security checks: %w", err)
	}
	return &Classifier{pods: pods, granted: granted}, nil
}

// Classify judges objects together: the worst decides, and each reason names its object.
func (c *Classifier) Classify(objects ...Object) Verdict {
	v := Verdict{Class: Contained}
	for _, o := range objects {
		for _, reason := range c.reasons(o.Unstructured) {
			v.Class = RootEquivalent
			v.Reasons = append(v.Reasons, o.Ref().String()+": "+reason)
		}
	}
	return v
}

// systemNamespaces hold what the cluster itself trusts: service accounts of controllers, the front proxy's authority,
// what the cluster wants, what joining nodes read. Any object there may change or use it.
func isSystemNamespace(name string) bool {
	return slices.Contains([]string{"kube-system", SystemNamespace, "kube-public", "kube-node-lease"}, name)
}

// reasons is empty for a contained object. What it does not know is root-equivalent.
func (c *Classifier) reasons(u *unstructured.Unstructured) []string {
	var out []string
	if ns := u.GetNamespace(); isSystemNamespace(ns) && !slices.Contains(c.granted, ns) {
		out = append(out, "is in the system namespace "+ns)
	}
	gvk := u.GroupVersionKind()
	if path, ok := podPath(gvk); ok {
		return append(out, c.podReasons(u, path)...)
	}
	switch gvk.Group {
	case "rbac.authorization.k8s.io":
		return append(out, "changes who may do what (RBAC)")
	case "admissionregistration.k8s.io":
		return append(out, "judges or changes other objects (admission)")
	case "apiregistration.k8s.io":
		return append(out, "answers for an API group (APIService)")
	}
	reason, known := kindReason(gvk.GroupKind(), u)
	if !known {
		reason = "its kind cannot be judged"
	}
	if reason != "" {
		out = append(out, reason)
	}
	return out
}

// kindReason judges the kinds that are neither workloads nor of a group that is root-equivalent as a whole.
func kindReason(gk schema.GroupKind, u *unstructured.Unstructured) (reason string, known bool) {
	switch gk {
	case schema.GroupKind{Kind: "ConfigMap"}, schema.GroupKind{Kind: "Secret"}, schema.GroupKind{Kind: "ServiceAccount"},
		schema.GroupKind{Kind: "PersistentVolumeClaim"}, schema.GroupKind{Kind: "ResourceQuota"}, schema.GroupKind{Kind: "LimitRange"},
		schema.GroupKind{Group: "policy", Kind: "PodDisruptionBudget"},
		schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"},
		schema.GroupKind{Group: "networking.k8s.io", Kind: "Ingress"},
		schema.GroupKind{Group: "networking.k8s.io", Kind: "IngressClass"},
		schema.GroupKind{Group: "networking.k8s.io", Kind: "NetworkPolicy"},
		schema.GroupKind{Group: "scheduling.k8s.io", Kind: "PriorityClass"},
		schema.GroupKind{Group: "storage.k8s.io", Kind: "StorageClass"},
		schema.GroupKind{Group: "coordination.k8s.io", Kind: "Lease"}:
		return "", true
	case schema.GroupKind{Kind: "Namespace"}:
		return namespaceReason(u), true
	case schema.GroupKind{Kind: "Service"}:
		return serviceReason(u), true
	case schema.GroupKind{Kind: "Endpoints"}, schema.GroupKind{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:
		return "chooses where a service's traffic goes", true
	case schema.GroupKind{Kind: "PersistentVolume"}:
		return "may give pods a path of the node, past Pod Security", true
	case schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:
		return crdReason(u), true
	}
	return "", false
}

func namespaceReason(u *unstructured.Unstructured) string {
	if isSystemNamespace(u.GetName()) {
		return "changes a system namespace"
	}
	return ""
}

func serviceReason(u *unstructured.Unstructured) string {
	if ips, found, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "externalIPs"); found && ips != nil {
		return "takes the traffic to addresses of its choice (externalIPs)"
	}
	if u.GetName() == "kubernetes" && (u.GetNamespace() == "default" || u.GetNamespace() == "") {
		return "is the API server's own service"
	}
	return ""
}

func crdReason(u *unstructured.Unstructured) string {
	strategy, found, err := unstructured.NestedFieldNoCopy(u.Object, "spec", "conversion", "strategy")
	if err != nil || (found && strategy != "None") {
		return "converts objects by a webhook"
	}
	if u.GroupVersionKind().Version != "v1" {
		return "its version of CRDs cannot be judged"
	}
	return ""
}

// podPath is where a workload's pod template stands. Only the versions whose shape is known are judged by it.
func podPath(gvk schema.GroupVersionKind) ([]string, bool) {
	switch gvk.GroupVersion() {
	case schema.GroupVersion{Version: "v1"}:
		switch gvk.Kind {
		case "Pod":
			return nil, true
		case "PodTemplate":
			return []string{"template"}, true
		case "ReplicationController":
			return []string{"spec", "template"}, true
		}
	case schema.GroupVersion{Group: "apps", Version: "v1"}:
		switch gvk.Kind {
		case "Deployment", "DaemonSet", "StatefulSet", "ReplicaSet":
			return []string{"spec", "template"}, true
		}
	case schema.GroupVersion{Group: "batch", Version: "v1"}:
		switch gvk.Kind {
		case "Job":
			return []string{"spec", "template"}, true
		case "CronJob":
			return []string{"spec", "jobTemplate", "spec", "template"}, true
		}
	}
	return nil, false
}

func (c *Classifier) podReasons(u *unstructured.Unstructured, path []string) []string {
	raw, found, err := unstructured.NestedFieldNoCopy(u.Object, path...)
	if len(path) == 0 {
		raw, found = u.Object, true
	}
	if err != nil {
		return []string{"its pods cannot be judged: " + err.Error()}
	}
	if !found || raw == nil {
		return nil
	}
	template, err := podTemplate(raw)
	if err != nil {
		return []string{"its pods cannot be judged: " + err.Error()}
	}
	level := api.LevelVersion{Level: api.LevelBaseline, Version: api.LatestVersion()}
	var out []string
	for _, r := range c.pods.EvaluatePod(level, &template.ObjectMeta, &template.Spec) {
		if r.Allowed {
			continue
		}
		reason := "pods above Pod Security baseline: " + r.ForbiddenReason
		if r.ForbiddenDetail != "" {
			reason += " (" + r.ForbiddenDetail + ")"
		}
		out = append(out, reason)
	}
	return out
}

// podTemplate decodes as the API server does, with the case of keys significant: encoding/json would let a "hostnetwork"
// that the server ignores hide a "hostNetwork".
func podTemplate(raw any) (*corev1.PodTemplateSpec, error) {
	text, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	template := &corev1.PodTemplateSpec{}
	if err := utiljson.Unmarshal(text, template); err != nil {
		return nil, err
	}
	return template, nil
}
