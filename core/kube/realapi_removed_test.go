//go:build realapi

package kube

import (
	"context"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/revoked"
)

// TestRealAPIRefusesRemovedNodes: the API server goes by the list as soon as it
// is written, for a node's every program, until the name is off it.
func TestRealAPIRefusesRemovedNodes(t *testing.T) {
	ctx := realContext(t)
	admin := as(t, "admin", "system:masters")
	programs := map[string]*Client{
		"kubelet": as(t, "system:node:gone", "system:nodes"), "proxy": as(t, "system:kube-proxy", "mk:proxy:gone"),
		"agent": as(t, "mk:node:gone", "mk:nodes"), "flanneld": as(t, "mk:flanneld:gone", "mk:flanneld"),
	}
	others := map[string]*Client{"kubelet": as(t, "system:node:here", "system:nodes"), "proxy": as(t, "system:kube-proxy", "mk:proxy:here")}
	version := func(c *Client) error { return c.typed.core.Get().AbsPath("/version").Do(ctx).Error() }
	for name, c := range programs {
		if err := version(c); err != nil {
			t.Errorf("the %s of a node that was not removed: %v", name, err)
		}
	}
	if err := admin.MakeNamespace(ctx, revoked.Namespace); err != nil && !Conflict(err) {
		t.Fatal(err)
	}
	doc := Document{Kind: PlainDocument, Namespace: revoked.Namespace, Name: revoked.Name, Data: map[string][]byte{"gone": []byte("now")}}
	doc, err := admin.WriteDocument(ctx, doc)
	if err != nil {
		t.Fatal(err)
	}
	waiting, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := admin.WaitNodeRefused(waiting, "gone", true); err != nil {
		t.Fatal(err)
	}
	for name, c := range programs {
		if err := version(c); err == nil || !strings.Contains(err.Error(), `the node "gone" was removed from the cluster`) {
			t.Errorf("the %s of a node that was removed: %v", name, err)
		}
		if err := c.Ready(ctx); err != nil {
			t.Errorf("the %s of a node that was removed asks for readiness: %v", name, err)
		}
	}
	for name, c := range others {
		if err := version(c); err != nil {
			t.Errorf("the %s of another node: %v", name, err)
		}
	}
	doc.Data = map[string][]byte{}
	if _, err := admin.WriteDocument(ctx, doc); err != nil {
		t.Fatal(err)
	}
	if err := admin.WaitNodeRefused(waiting, "gone", false); err != nil {
		t.Fatal(err)
	}
	for name, c := range programs {
		if err := version(c); err != nil {
			t.Errorf("the %s of a node that is back: %v", name, err)
		}
	}
}
