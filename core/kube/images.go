package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MissingImage is an image for which pods of a node wait.
type MissingImage struct {
	Image string
	Why   string // what the kubelet says
	// NoWay says that no registry could be reached: there is no network, or no
	// way to this one.
	NoWay bool
}

// MissingImages lists, sorted, the images for which pods of a node wait.
func (c *Client) MissingImages(ctx context.Context, node string) ([]MissingImage, error) {
	list, err := c.typed.pods().all(ctx, metav1.ListOptions{ResourceVersion: "0", FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, fmt.Errorf("list pods of %s: %w", node, err)
	}
	return missingImages(list.Items), nil
}

func missingImages(pods []corev1.Pod) []MissingImage {
	var out []MissingImage
	for i := range pods {
		st := pods[i].Status
		for _, c := range slices.Concat(st.InitContainerStatuses, st.ContainerStatuses, st.EphemeralContainerStatuses) {
			w := c.State.Waiting
			if w == nil || w.Reason != "ErrImagePull" && w.Reason != "ImagePullBackOff" && w.Reason != "ErrImageNeverPull" {
				continue
			}
			m := MissingImage{Image: c.Image, Why: w.Message, NoWay: noWay(w.Message)}
			if at := slices.IndexFunc(out, func(x MissingImage) bool { return x.Image == m.Image }); at < 0 {
				out = append(out, m)
			} else if m.NoWay { // one that says why tells more than one that backs off
				out[at] = m
			}
		}
	}
	slices.SortFunc(out, func(a, b MissingImage) int { return strings.Compare(a.Image, b.Image) })
	return out
}

// noWay knows what the network says when there is no way to a registry.
func noWay(message string) bool {
	return slices.ContainsFunc([]string{
		"network is unreachable", "no route to host", "no such host", "server misbehaving", "connection refused", "i/o timeout",
		"Temporary failure in name resolution", "connect: operation not permitted", "TLS handshake timeout",
	}, func(s string) bool { return strings.Contains(message, s) })
}
