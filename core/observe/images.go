package observe

import (
	"context"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
)

// imageFindings are the images for which pods of this node wait.
func imageFindings(ctx context.Context, n *operation.Node) []Finding {
	if n.Record == nil || n.Record.ClusterID == "" || n.Record.Stopped {
		return nil
	}
	c, err := n.Kube()
	if err != nil {
		return nil // what is wrong with the credentials is another area's
	}
	list, err := c.MissingImages(ctx, n.Record.Name)
	if err != nil && n.Record.Role == node.Worker {
		return nil // a worker may not list pods
	}
	if err != nil {
		return []Finding{{Area: "images", What: "not known: " + err.Error(), Next: "mk doctor services"}}
	}
	out := make([]Finding, 0, len(list))
	for _, m := range list {
		out = append(out, imageFinding(m))
	}
	return out
}

func imageFinding(m kube.MissingImage) Finding {
	f := Finding{Area: "images", Serious: true, What: "`" + m.Image + "` cannot be pulled", Why: m.Why, Next: "mk kubectl get events -A"}
	if m.NoWay {
		f.What = "`" + m.Image + "` is not on this node and there is no way out: `mk images import`, or a mirror: `mk help mirrors`"
		f.Next = "mk images import FILE"
	}
	return f
}
