package kube

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestMissingImages(t *testing.T) {
	t.Parallel()
	pod := func(image, reason, message string) corev1.Pod {
		return corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Image: "fine:1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			{Image: image, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}},
		}}}
	}
	unreachable := `failed to pull and unpack image "docker.io/library/nginx:1.29": dial tcp: lookup registry-1.docker.io: no such host`
	got := missingImages([]corev1.Pod{
		pod("nginx:1.29", "ImagePullBackOff", `Back-off pulling image "nginx:1.29"`), pod("nginx:1.29", "ErrImagePull", unreachable),
		pod("nginx:1.29", "ImagePullBackOff", `Back-off pulling image "nginx:1.29"`), pod("a:2", "ErrImagePull", "not found"),
		pod("b:1", "CrashLoopBackOff", "no such host"),
	})
	want := []MissingImage{{Image: "a:2", Why: "not found"}, {Image: "nginx:1.29", Why: unreachable, NoWay: true}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
