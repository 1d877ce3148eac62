package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// refusing names the budgets that select the pod and allow no disruption now.
func refusing(budgets []policyv1.PodDisruptionBudget, pod *corev1.Pod) []string {
	var names []string
	for i := range budgets {
		b := &budgets[i]
		if b.Namespace != pod.Namespace || b.Status.DisruptionsAllowed > 0 {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		names = append(names, b.Namespace+"/"+b.Name)
	}
	slices.Sort(names)
	return names
}
