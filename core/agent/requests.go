package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
)

const requestRetry = 10 * time.Second

// requests serves the cluster's CertificateSigningRequests.
func (o Options) requests(ctx context.Context) {
	o.again(ctx, requestRetry, o.serveRequests, func(err error) {
		if err != nil {
			o.Log.Debug("cannot serve signing requests, tried again", "error", err.Error())
		}
	})
}

// serveRequests watches with one connection. The node is opened anew for each
// request, so that no plugin lives between them.
func (o Options) serveRequests(ctx context.Context) error {
	n, err := o.Open()
	if err != nil {
		return err
	}
	if n.Record == nil || n.Record.ClusterID == "" || n.Record.Stopped || n.Record.Role != node.ControlPlane {
		return n.Close()
	}
	c, err := n.Kube()
	if err != nil {
		return errors.Join(err, n.Close())
	}
	err = c.WatchCSRs(ctx, func(csr kube.CSR) {
		all, err := n.Members(ctx)
		if err == nil {
			err = o.answer(ctx, c, lookup(all), csr)
		}
		if err != nil {
			o.Log.Error("signing request not served", "name", csr.Name, "error", err.Error())
		}
	}, func(err error) { o.Log.Debug("the API server cannot be asked", "error", err.Error()) })
	return errors.Join(err, n.Close())
}

// answer does what the rules say about one request.
func (o Options) answer(ctx context.Context, c *kube.Client, nodes kube.NodeLookup, csr kube.CSR) error {
	decision := kube.DecideCSR(csr, nodes)
	switch decision.Action {
	case kube.CSRApprove:
		return c.ApproveCSR(ctx, csr, decision.Reason)
	case kube.CSRRefuse:
		return c.FailCSR(ctx, csr, decision.Reason)
	case kube.CSRSign:
		return o.task(ctx, "sign "+csr.Name, func(ctx context.Context, n *operation.Node) error {
			chain, err := n.SignRequest(ctx, csr)
			if err != nil {
				return err
			}
			return c.SetCertificate(ctx, csr, chain)
		})
	}
	return nil
}

// lookup knows the nodes that mk has a record of; names are never taken from
// what a node reports of itself.
func lookup(all []*cluster.Member) kube.NodeLookup {
	return func(name string) (kube.NodeNames, bool) {
		i := slices.IndexFunc(all, func(m *cluster.Member) bool { return m.Name == name })
		if i < 0 {
			return kube.NodeNames{}, false
		}
		names := kube.NodeNames{Hostnames: []string{name}}
		for _, s := range append([]string{all[i].Address}, all[i].Addresses...) {
			if a, err := netip.ParseAddr(s); err == nil {
				names.Addresses = append(names.Addresses, a)
			}
		}
		return names, true
	}
}
