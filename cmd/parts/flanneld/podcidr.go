package main

import (
	"context"
	"fmt"
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	podCIDRPoll    = time.Second // at the most; a node that has just joined has its network within one
	podCIDRRequest = 10 * time.Second
	// A line a minute is enough for whoever reads the log of a node that waits.
	podCIDRRemind = time.Minute
)

// waitForPodCIDR returns when the node exists and has a pod network, or ctx ends. An API server that cannot
// be reached is waited for as well; only a kubeconfig that cannot be read is an error.
func waitForPodCIDR(ctx context.Context, o options) error {
	config, err := clientcmd.BuildConfigFromFlags(o.kubeAPIURL, o.kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig %s: %w", o.kubeconfig, err)
	}
	config.Timeout = podCIDRRequest
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client from kubeconfig %s: %w", o.kubeconfig, err)
	}
	return pollPodCIDR(ctx, func(ctx context.Context) (string, error) {
		node, err := client.CoreV1().Nodes().Get(ctx, o.nodeName, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return node.Spec.PodCIDR, nil
	})
}

// pollPodCIDR asks until the answer is not empty.
func pollPodCIDR(ctx context.Context, ask func(context.Context) (string, error)) error {
	pause := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 1.5, Steps: math.MaxInt, Cap: podCIDRPoll}
	var said time.Time
	for {
		cidr, err := ask(ctx)
		if err == nil && cidr != "" {
			return nil
		}
		if now := time.Now(); now.Sub(said) >= podCIDRRemind {
			klog.InfoS("waiting for this node's pod network", "err", err)
			said = now
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for this node's pod network: %w", ctx.Err())
		case <-time.After(pause.Step()):
		}
	}
}
