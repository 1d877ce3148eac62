package kube

import (
	"cmp"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Health is whether an object does its work; Reason says why not.
type Health struct {
	Healthy bool
	Reason  string
}

func healthy() Health { return Health{Healthy: true} }

func unhealthy(format string, args ...any) Health {
	return Health{Reason: fmt.Sprintf(format, args...)}
}

// HealthOf judges one object by its own state: workloads by a complete rollout of the current generation, pods by
// readiness, jobs by completion, CRDs and APIServices by their conditions, volume claims by being bound. Any other kind
// is healthy when it exists. An object that is being deleted is not healthy.
func HealthOf(u *unstructured.Unstructured) Health {
	if u.GetDeletionTimestamp() != nil {
		return unhealthy("is being deleted")
	}
	gk := u.GroupVersionKind().GroupKind()
	switch gk {
	case schema.GroupKind{Group: "apps", Kind: "Deployment"}:
		return typed(u, deploymentHealth)
	case schema.GroupKind{Group: "apps", Kind: "DaemonSet"}:
		return typed(u, daemonSetHealth)
	case schema.GroupKind{Group: "apps", Kind: "StatefulSet"}:
		return typed(u, statefulSetHealth)
	case schema.GroupKind{Group: "batch", Kind: "Job"}:
		return typed(u, jobHealth)
	case schema.GroupKind{Kind: "Pod"}:
		return typed(u, podHealth)
	case schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:
		return crdHealth(u)
	case schema.GroupKind{Group: "apiregistration.k8s.io", Kind: "APIService"}:
		return conditionHealth(u, "Available")
	case schema.GroupKind{Kind: "PersistentVolumeClaim"}:
		if phase, _, _ := unstructured.NestedString(u.Object, "status", "phase"); phase != "Bound" {
			return unhealthy("is %s", cmp.Or(phase, "not bound"))
		}
	}
	return healthy()
}

func typed[T any](u *unstructured.Unstructured, judge func(*T) Health) Health {
	obj := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, obj); err != nil {
		return unhealthy("cannot be read: %v", err)
	}
	return judge(obj)
}

func deploymentHealth(d *appsv1.Deployment) Health {
	want := *cmp.Or(d.Spec.Replicas, new(int32(1)))
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" {
			return unhealthy("the rollout does not progress: %s", c.Message)
		}
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return unhealthy("cannot make pods: %s", c.Message)
		}
	}
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return unhealthy("its change has not been seen yet")
	case s.UpdatedReplicas < want:
		return unhealthy("%d of %d pods are updated", s.UpdatedReplicas, want)
	case s.Replicas > s.UpdatedReplicas:
		return unhealthy("%d old pods have not ended", s.Replicas-s.UpdatedReplicas)
	case s.AvailableReplicas < want:
		return unhealthy("%d of %d pods are available", s.AvailableReplicas, want)
	}
	return healthy()
}

func daemonSetHealth(d *appsv1.DaemonSet) Health {
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return unhealthy("its change has not been seen yet")
	case d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType && s.UpdatedNumberScheduled < s.DesiredNumberScheduled:
		return unhealthy("%d of %d pods are updated", s.UpdatedNumberScheduled, s.DesiredNumberScheduled)
	case s.NumberAvailable < s.DesiredNumberScheduled:
		return unhealthy("%d of %d pods are available", s.NumberAvailable, s.DesiredNumberScheduled)
	}
	return healthy()
}

func statefulSetHealth(d *appsv1.StatefulSet) Health {
	want := *cmp.Or(d.Spec.Replicas, new(int32(1)))
	partition := int32(0)
	if r := d.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
		partition = *r.Partition
	}
	s := d.Status
	onDelete := d.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType
	switch {
	case s.ObservedGeneration < d.Generation:
		return unhealthy("its change has not been seen yet")
	case s.ReadyReplicas < want:
		return unhealthy("%d of %d pods are ready", s.ReadyReplicas, want)
	case !onDelete && partition == 0 && s.UpdateRevision != s.CurrentRevision && s.UpdatedReplicas < want:
		return unhealthy("%d of %d pods are updated", s.UpdatedReplicas, want)
	case !onDelete && partition > 0 && s.UpdatedReplicas < want-partition:
		return unhealthy("%d of %d pods are updated", s.UpdatedReplicas, want-partition)
	}
	return healthy()
}

func jobHealth(j *batchv1.Job) Health {
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			return healthy()
		case batchv1.JobFailed:
			return unhealthy("failed: %s", cmp.Or(c.Message, c.Reason))
		case batchv1.JobSuspended:
			return unhealthy("is suspended")
		}
	}
	return unhealthy("%d of its pods succeeded, it is not complete", j.Status.Succeeded)
}

func podHealth(p *corev1.Pod) Health {
	if p.Status.Phase == corev1.PodSucceeded {
		return healthy()
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return healthy()
		}
	}
	for _, statuses := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range statuses {
			if w := c.State.Waiting; w != nil && w.Reason != "PodInitializing" {
				return unhealthy("container %s waits: %s %s", c.Name, w.Reason, w.Message)
			}
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return unhealthy("is not scheduled: %s", c.Message)
		}
	}
	return unhealthy("is %s, not ready", cmp.Or(string(p.Status.Phase), "Pending"))
}

// crdHealth: established is not enough, as names that clash leave a CRD established under its old ones.
func crdHealth(u *unstructured.Unstructured) Health {
	if h := conditionHealth(u, "NamesAccepted"); !h.Healthy {
		return h
	}
	return conditionHealth(u, "Established")
}

func conditionHealth(u *unstructured.Unstructured, kind string) Health {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		m, ok := c.(map[string]any)
		if !ok || m["type"] != kind {
			continue
		}
		if m["status"] == "True" {
			return healthy()
		}
		reason, _ := m["reason"].(string)
		message, _ := m["message"].(string)
		return unhealthy("condition %s is %v (%s): %s", kind, m["status"], reason, message)
	}
	return unhealthy("condition %s is not reported yet", kind)
}

// needsEndpoints: a service of type ExternalName, or without a selector and so without endpoints of its own making,
// works without.
func needsEndpoints(u *unstructured.Unstructured) bool {
	kind, _, _ := unstructured.NestedString(u.Object, "spec", "type")
	selector, _, _ := unstructured.NestedMap(u.Object, "spec", "selector")
	return kind != "ExternalName" && len(selector) > 0
}

func endpointHealth(slices []unstructured.Unstructured) Health {
	for i := range slices {
		endpoints, _, _ := unstructured.NestedSlice(slices[i].Object, "endpoints")
		for _, e := range endpoints {
			m, ok := e.(map[string]any)
			if !ok {
				continue
			}
			// The API: an endpoint that does not say is ready.
			if ready, found, err := unstructured.NestedBool(m, "conditions", "ready"); err == nil && (!found || ready) {
				return healthy()
			}
		}
	}
	return unhealthy("has no ready endpoint")
}
