package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/pki"
)

const (
	barredName = "removed-nodes"
	// barredFor is longer than any certificate of a node lives.
	barredFor = 400 * 24 * time.Hour
	mostTries = 10 // where others write at the same time
)

// Bar keeps the kubelet of a node that was removed from coming back as a new
// node with the certificate that it still has. A join of that name ends it.
func (n *Node) Bar(ctx context.Context, store cluster.Members, name string) error {
	if pki.CheckNodeName(name) != nil {
		return nil // no kubelet is certified for it
	}
	return n.changeBarred(ctx, store.Client, func(list map[string][]byte) bool {
		list[name] = []byte(n.Now().UTC().Format(time.RFC3339))
		return true
	})
}

// Unbar lets a node of that name in again.
func (n *Node) Unbar(ctx context.Context, store cluster.Members, name string) error {
	return n.changeBarred(ctx, store.Client, func(list map[string][]byte) bool {
		_, there := list[name]
		delete(list, name)
		return there
	})
}

// changeBarred changes the list of nodes that were removed, and has the API
// server go by it. Several nodes may do so at once: whoever finds that the list
// has changed meanwhile goes by the new one.
func (n *Node) changeBarred(ctx context.Context, c *kube.Client, change func(map[string][]byte) bool) error {
	for range mostTries {
		doc, err := c.ReadDocument(ctx, kube.PlainDocument, kube.SystemNamespace, barredName)
		if kube.NotFound(err) {
			doc, err = kube.Document{Kind: kube.PlainDocument, Namespace: kube.SystemNamespace, Name: barredName}, nil
		}
		if err != nil {
			return err
		}
		if doc.Data == nil {
			doc.Data = map[string][]byte{}
		}
		if !change(doc.Data) {
			return nil
		}
		maps.DeleteFunc(doc.Data, func(_ string, when []byte) bool {
			at, err := time.Parse(time.RFC3339, string(when))
			return err != nil || n.Now().Sub(at) > barredFor
		})
		doc, err = c.WriteDocument(ctx, doc)
		if kube.Conflict(err) {
			continue
		}
		if err != nil {
			return err
		}
		return n.applyBarred(ctx, c, doc)
	}
	return errors.New("the list of removed nodes is written by someone else all the time")
}

func (n *Node) applyBarred(ctx context.Context, c *kube.Client, doc kube.Document) error {
	for range mostTries {
		objects, err := barredPolicy(slices.Sorted(maps.Keys(doc.Data)))
		if err != nil {
			return err
		}
		if _, err := c.Apply(ctx, kube.ApplyRequest{Inventory: "mk-" + barredName, Objects: objects, Prune: true}); err != nil {
			return err
		}
		now, err := c.ReadDocument(ctx, kube.PlainDocument, kube.SystemNamespace, barredName)
		if err != nil {
			return err
		}
		if now.Version == doc.Version {
			return nil
		}
		doc = now
	}
	return errors.New("the list of removed nodes changes all the time")
}

// barredPolicy refuses the names to kubelets. Whoever runs the cluster may make
// a node of any name.
func barredPolicy(names []string) ([]kube.Object, error) {
	if len(names) == 0 {
		return nil, nil
	}
	list, err := json.Marshal(names)
	if err != nil {
		return nil, fmt.Errorf("write the names of removed nodes: %w", err)
	}
	expression, err := json.Marshal("!(object.metadata.name in " + string(list) + ")")
	if err != nil {
		return nil, fmt.Errorf("write the names of removed nodes: %w", err)
	}
	return kube.ParseManifests(fmt.Appendf(nil, barredManifest, expression), barredName)
}

const barredManifest = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: mk-removed-nodes
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [CREATE]
        resources: [nodes]
  matchConditions:
    - name: asked-by-a-kubelet
      expression: request.userInfo.username.startsWith("system:node:")
  validations:
    - expression: %s
      message: the node was removed from the cluster; it comes back by mk join
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: mk-removed-nodes
spec:
  policyName: mk-removed-nodes
  validationActions: [Deny]
`
