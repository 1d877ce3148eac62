package datastore

import (
	"bytes"
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// leasePrefix is where the API server keeps the kubelets' signs of life.
const leasePrefix = "/registry/leases/kube-node-lease/"

// lastHeard fills in when the nodes of silent members were last heard of: the
// last renewal of a kubelet's lease that was committed. Any member that answers
// has it, with or without a quorum.
func (c *Client) lastHeard(ctx context.Context, members []Member) {
	for i := range members {
		m := &members[i]
		if m.Answers || m.Name == "" {
			continue
		}
		for _, other := range members {
			if !other.Answers {
				continue
			}
			if at, err := c.renewed(ctx, other.ClientAddress, m.Name); err == nil {
				m.Since = at
			}
			break
		}
	}
}

func (c *Client) renewed(ctx context.Context, endpoint, name string) (time.Time, error) {
	e, err := c.at(endpoint)
	if err != nil {
		return time.Time{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	value, found, err := e.Get(ctx, leasePrefix+name)
	if err != nil {
		return time.Time{}, err
	}
	if !found {
		return time.Time{}, fmt.Errorf("%s has no lease", name)
	}
	return leaseTime(value)
}

// leaseTime reads a lease as the API server stores it: four bytes, an envelope,
// the object.
func leaseTime(data []byte) (time.Time, error) {
	body, ok := bytes.CutPrefix(data, []byte("k8s\x00"))
	if !ok {
		return time.Time{}, fmt.Errorf("%.10q is no object of Kubernetes", data)
	}
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(body); err != nil {
		return time.Time{}, fmt.Errorf("read an object of Kubernetes: %w", err)
	}
	var lease coordinationv1.Lease
	if err := lease.Unmarshal(envelope.Raw); err != nil {
		return time.Time{}, fmt.Errorf("read a lease: %w", err)
	}
	if lease.Spec.RenewTime == nil {
		return time.Time{}, fmt.Errorf("the lease was never renewed")
	}
	return lease.Spec.RenewTime.UTC(), nil
}
