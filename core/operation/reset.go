package operation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mk8s.io/mk/core/service"
)

// ResetOptions say how much goes.
type ResetOptions struct {
	All bool // the node's data too, not only what runs
}

// Reset stops the node and removes everything that it made: afterwards the
// folder is like before the first start. It does not resume what is open.
func (n *Node) Reset(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if n.Record != nil {
		if err := n.StopServices(ctx); err != nil {
			return err
		}
		if r, ok := n.services.(service.Remover); ok {
			if err := notRunning(r.Remove(ctx, n.serviceNames()...)); err != nil {
				return err
			}
		}
		if err := n.ClearRemains(ctx); err != nil {
			return err
		}
	}
	if err := n.clearElsewhere(); err != nil {
		return err
	}
	names, err := n.resetNames()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, n.Root.RemoveAll(name))
	}
	for _, p := range kubeletLeaves() {
		_ = os.Remove(p)
	}
	defer func() { _ = os.Remove(filepath.Dir(n.Root.RunDir())) }()
	if err := os.RemoveAll(n.Root.RunDir()); err != nil {
		errs = append(errs, fmt.Errorf("remove %s: %w", n.Root.RunDir(), err))
	}
	return errors.Join(errs...)
}

// kubeletLeaves are what the kubelet and the CNI library make wherever the
// node's folder is. Only what is empty goes: another node's or somebody else's
// stays.
func kubeletLeaves() []string {
	return []string{
		"/var/lib/kubelet/device-plugins/kubelet.sock", "/var/lib/kubelet/device-plugins", "/var/lib/kubelet",
		"/var/log/containers", "/var/log/pods", "/var/lib/cni/results", "/var/lib/cni",
	}
}
