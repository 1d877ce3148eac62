package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/sdk/changeset"
)

// Names in the cluster.
const (
	Namespace  = "mk-system"
	wantedName = "wanted"
	// maxConflicts is how often a write is tried again because someone else
	// wrote first.
	maxConflicts = 10
)

// want adds operations of scope cluster to what the cluster wants: one object,
// whose generation counts the changes.
func (n *Node) want(ctx context.Context, ops []changeset.Operation) error {
	c, err := n.Kube()
	if err != nil {
		return err
	}
	data, err := json.Marshal(changeset.ChangeSet{Operations: ops})
	if err != nil {
		return fmt.Errorf("write what the cluster wants: %w", err)
	}
	for range maxConflicts {
		doc, err := c.ReadDocument(ctx, kube.SecretDocument, Namespace, wantedName)
		if kube.NotFound(err) {
			doc = kube.Document{Kind: kube.SecretDocument, Namespace: Namespace, Name: wantedName, Data: map[string][]byte{}}
		} else if err != nil {
			return err
		}
		generation, _ := strconv.Atoi(string(doc.Data["generation"]))
		generation++
		if doc.Data == nil {
			doc.Data = map[string][]byte{}
		}
		doc.Data["generation"] = []byte(strconv.Itoa(generation))
		doc.Data["change-"+strconv.Itoa(generation)] = data
		_, err = c.WriteDocument(ctx, doc)
		if err == nil || !kube.Conflict(err) {
			return err
		}
	}
	return fmt.Errorf("what the cluster wants is written by someone else all the time")
}
