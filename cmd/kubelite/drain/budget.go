package drain

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

// nameBudgets finds the budgets that select the pods left behind and allow no disruption. It is only for the message, so
// that where the API server cannot be asked, the names are left out.
func nameBudgets(ctx context.Context, client kubernetes.Interface, pods []Pod) {
	budgets := map[string][]policyv1.PodDisruptionBudget{}
	for i := range pods {
		p := &pods[i]
		if _, ok := budgets[p.Namespace]; !ok {
			list, err := client.PolicyV1().PodDisruptionBudgets(p.Namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
			if err != nil {
				return
			}
			budgets[p.Namespace] = list.Items
		}
		if len(budgets[p.Namespace]) == 0 {
			continue
		}
		pod, err := client.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		if err != nil {
			continue
		}
		p.Budgets = refusing(budgets[p.Namespace], pod)
	}
}

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
