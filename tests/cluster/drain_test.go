//go:build cluster

package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// movable is a pod that runs on a node while it can.
const movable = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: movable}
spec:
  selector: {matchLabels: {app: movable}}
  template:
    metadata: {labels: {app: movable}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{key: edge, operator: Exists}]
      affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [%s]}]}}]}}
      containers: [{name: movable, image: "mk.test/tools:1.0.0", imagePullPolicy: Never, args: [serve]}]
`

// stopsDrained has a node's pods go elsewhere when it stops. When it starts it
// takes pods again, unless somebody had cordoned it by hand.
func stopsDrained(t *testing.T, server, m *machine, name string) {
	t.Helper()
	server.apply(fmt.Sprintf(movable, name))
	server.kubectl("rollout", "status", "deployment/movable", "--timeout=120s")
	at := func() string {
		return server.kubectl("get", "pods", "-l", "app=movable", "-o", `jsonpath={.items[?(@.status.phase=="Running")].spec.nodeName}`)
	}
	cordoned := func() string {
		return server.kubectl("get", "node", name, "-o", "jsonpath={.spec.unschedulable}")
	}
	if on := at(); on != name {
		t.Errorf("the pod runs on %q", on)
	}
	server.kubectl("create", "pdb", "movable", "--selector=app=movable", "--min-available=1")
	if _, err := m.try(time.Minute, "mk", "stop", "--drain", "--timeout", "8s"); err == nil {
		t.Error("a pod that must stay lets its node stop")
	}
	if now := cordoned(); now != "" {
		t.Errorf("a node that could not be drained is cordoned: %q", now)
	}
	server.kubectl("delete", "pdb", "movable")
	m.run("mk", "stop", "--drain")
	server.eventually(time.Minute, func() error {
		if on := at(); on == "" || strings.Contains(on, name) {
			return fmt.Errorf("the pod of a drained node runs on %q", on)
		}
		return nil
	})
	if now := cordoned(); now != "true" {
		t.Errorf("a node that was drained and stopped is cordoned: %q", now)
	}
	m.run("mk", "start")
	if now := cordoned(); now != "" {
		t.Errorf("a node that has started again is cordoned: %q", now)
	}
	server.kubectl("delete", "deployment", "movable")

	server.kubectl("cordon", name)
	m.run("mk", "stop", "--drain")
	m.run("mk", "start")
	if now := cordoned(); now != "true" {
		t.Errorf("a node that a person had cordoned is so after a stop and a start: %q", now)
	}
	server.kubectl("uncordon", name)
}
