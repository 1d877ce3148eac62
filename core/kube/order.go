package kube

import (
	"cmp"
	"slices"
)

// Ranks of kinds: objects of a lower rank are applied first and deleted last.
const (
	rankNamespace = iota
	rankCRD
	rankAccess
	rankPolicy
	rankConfig
	rankService
	rankWorkload
	rankOther
	rankAPIService
	rankWebhook
)

// rankOf orders kinds by what they need. Custom resources come after the workloads, so that on deletion the operator that
// must finish them still runs; webhooks last, so that they do not judge what they are applied with.
func rankOf(group, kind string) int {
	switch group {
	case "rbac.authorization.k8s.io":
		return rankAccess
	case "admissionregistration.k8s.io":
		return rankWebhook
	case "apiregistration.k8s.io":
		return rankAPIService
	case "apiextensions.k8s.io":
		return rankCRD
	case "storage.k8s.io", "scheduling.k8s.io", "node.k8s.io":
		return rankPolicy
	case "apps", "batch", "autoscaling", "policy":
		return rankWorkload
	case "networking.k8s.io":
		if kind == "Ingress" {
			return rankWorkload
		}
		return rankPolicy
	case "discovery.k8s.io":
		return rankService
	case "":
		return rankOfCore(kind)
	}
	return rankOther
}

func rankOfCore(kind string) int {
	switch kind {
	case "Namespace":
		return rankNamespace
	case "ServiceAccount":
		return rankAccess
	case "ResourceQuota", "LimitRange":
		return rankPolicy
	case "ConfigMap", "Secret", "PersistentVolume", "PersistentVolumeClaim":
		return rankConfig
	case "Service", "Endpoints":
		return rankService
	}
	return rankWorkload
}

func rank(r Ref) int { return rankOf(r.Group, r.Kind) }

// inOrder sorts for applying; objects of one rank keep the order of the manifest.
func inOrder(objects []Object) []Object {
	sorted := slices.Clone(objects)
	slices.SortStableFunc(sorted, func(a, b Object) int { return cmp.Compare(rank(a.Ref()), rank(b.Ref())) })
	return sorted
}

// inReverse groups for deleting: the groups one after the other, the objects of a group at once.
func inReverse(entries []entry) [][]entry {
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, func(a, b entry) int { return cmp.Compare(rank(b.Ref), rank(a.Ref)) })
	var groups [][]entry
	for i, e := range sorted {
		if i == 0 || rank(e.Ref) != rank(sorted[i-1].Ref) {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], e)
	}
	return groups
}
