//go:build realapi

package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const realManifest = `
apiVersion: example.mk8s.io/v1
kind: Widget
metadata: {name: one, namespace: NS}
spec: {size: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: example.invalid/none}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: first, namespace: NS}
data: {a: "1"}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.mk8s.io}
spec:
  group: example.mk8s.io
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: v1
kind: Namespace
metadata: {name: NS}
`

func realContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: SystemNamespace}}
	_, err := realSet().CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return ctx
}

func parse(t *testing.T, text string) []Object {
	t.Helper()
	objects, err := ParseManifests([]byte(text), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func mustApply(ctx context.Context, t *testing.T, request ApplyRequest) Result {
	t.Helper()
	result, err := realClient.Apply(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func actions(r Result) string {
	var b strings.Builder
	for _, c := range r.Changes {
		fmt.Fprintf(&b, "%s %s\n", c.Action, c.Ref)
	}
	return b.String()
}

func TestRealApplyFromCRDToDelete(t *testing.T) {
	ctx := realContext(t)
	all := parse(t, strings.ReplaceAll(realManifest, "NS", "real-apply"))
	request := ApplyRequest{Inventory: "core.apply", Objects: all, Prune: true}

	request.DryRun = true
	want := "create Namespace real-apply\ncreate CustomResourceDefinition.apiextensions.k8s.io widgets.example.mk8s.io\n" +
		"create ConfigMap real-apply/first\ncreate Deployment.apps real-apply/web\ncreate Widget.example.mk8s.io real-apply/one\n"
	if got := actions(mustApply(ctx, t, request)); got != want {
		t.Fatalf("dry run:\n%swant:\n%s", got, want)
	}
	if _, err := realSet().CoreV1().Namespaces().Get(ctx, "real-apply", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("the dry run made something: %v", err)
	}
	request.DryRun = false
	if got := actions(mustApply(ctx, t, request)); got != want {
		t.Fatalf("apply:\n%swant:\n%s", got, want)
	}
	inventoryBefore, err := realClient.ReadDocument(ctx, PlainDocument, SystemNamespace, inventoryPrefix+"core.apply")
	if err != nil {
		t.Fatal(err)
	}
	again := mustApply(ctx, t, request)
	if again.Changed() {
		t.Fatalf("the same input changed something:\n%s", actions(again))
	}
	inventoryAfter, err := realClient.ReadDocument(ctx, PlainDocument, SystemNamespace, inventoryPrefix+"core.apply")
	if err != nil || inventoryAfter.Version != inventoryBefore.Version {
		t.Fatalf("the same input wrote the inventory: %s, then %s, %v", inventoryBefore.Version, inventoryAfter.Version, err)
	}

	request.Objects = slices.DeleteFunc(slices.Clone(all), func(o Object) bool { return o.GetKind() == "ConfigMap" })
	pruned := mustApply(ctx, t, request)
	if got := actions(pruned); !strings.Contains(got, "delete ConfigMap real-apply/first") || strings.Count(got, "unchanged") != 4 {
		t.Fatalf("prune:\n%s", got)
	}
	removed, err := realClient.Delete(ctx, "core.apply", DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want = "delete Widget.example.mk8s.io real-apply/one\ndelete Deployment.apps real-apply/web\n" +
		"delete CustomResourceDefinition.apiextensions.k8s.io widgets.example.mk8s.io\ndelete Namespace real-apply\n"
	if got := actions(removed); got != want {
		t.Fatalf("delete:\n%swant:\n%s", got, want)
	}
	if _, err := realSet().CoreV1().Namespaces().Get(ctx, "real-apply", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("the namespace is still there: %v", err)
	}
	if r, err := realClient.Delete(ctx, "core.apply", DeleteOptions{}); err != nil || len(r.Changes) != 0 {
		t.Fatalf("deleting again: %v, %v", r, err)
	}
}

func TestRealConflictAndAdoption(t *testing.T) {
	ctx := realContext(t)
	cm := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: default}\ndata: {a: \"%s\"}\n"
	maps := realSet().CoreV1().ConfigMaps("default")
	foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}, Data: map[string]string{"a": "theirs"}}
	if _, err := maps.Create(ctx, foreign, metav1.CreateOptions{FieldManager: "helm"}); err != nil {
		t.Fatal(err)
	}
	request := ApplyRequest{Inventory: "adopter", Objects: parse(t, fmt.Sprintf(cm, "foreign", "ours")+"---\n"+fmt.Sprintf(cm, "fresh", "x"))}
	_, err := realClient.Apply(ctx, request)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Conflicts[0].Manager != "helm" || conflict.Conflicts[0].Field != ".data.a" {
		t.Fatalf("conflict: %v", err)
	}
	if _, err := maps.Get(ctx, "fresh", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("a conflict left something applied: %v", err)
	}
	request.PreviousManagers = []string{"helm"}
	mustApply(ctx, t, request)
	if mustApply(ctx, t, request).Changed() {
		t.Fatal("the same input changed something")
	}
	other := ApplyRequest{Inventory: "other", Objects: parse(t, fmt.Sprintf(cm, "fresh", "x"))}
	var owned *OwnedError
	if _, err := realClient.Apply(ctx, other); !errors.As(err, &owned) || owned.Owner != "adopter" {
		t.Fatalf("another inventory's object: %v", err)
	}
	r, err := realClient.Delete(ctx, "adopter", DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := actions(r); got != "kept ConfigMap default/foreign\ndelete ConfigMap default/fresh\n" {
		t.Fatalf("delete:\n%s", got)
	}
	if _, err := maps.Get(ctx, "foreign", metav1.GetOptions{}); err != nil {
		t.Fatalf("an adopted object was deleted: %v", err)
	}
}

func TestRealDeleteEndsWithItsContext(t *testing.T) {
	ctx := realContext(t)
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, namespace: default, finalizers: [example.mk8s.io/hold]}\n"
	mustApply(ctx, t, ApplyRequest{Inventory: "held", Objects: parse(t, text)})
	short, cancel := context.WithTimeout(ctx, 700*time.Millisecond)
	defer cancel()
	_, err := realClient.Delete(short, "held", DeleteOptions{})
	var stuck *StuckError
	if !errors.As(err, &stuck) || !errors.Is(err, context.DeadlineExceeded) || !slices.Equal(stuck.Finalizers, []string{"example.mk8s.io/hold"}) {
		t.Fatalf("held object: %v", err)
	}
	free := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := realSet().CoreV1().ConfigMaps("default").Patch(ctx, "held", types.MergePatchType, free, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := realClient.Delete(ctx, "held", DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestRealNode(t *testing.T) {
	ctx := realContext(t)
	nodes := realSet().CoreV1().Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "fake", Labels: map[string]string{"node-role.kubernetes.io/control-plane": "", "gone": "x"}}}
	if _, err := nodes.Create(ctx, node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := realClient.SetLabels(ctx, "fake", map[string]string{"zone": "a"}, []string{"gone"}); err != nil {
		t.Fatal(err)
	}
	taint := Taint{Key: "mk8s.io/test", Value: "1", Effect: "NoSchedule"}
	if err := realClient.SetTaints(ctx, "fake", []Taint{taint}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := realClient.Node(ctx, "fake")
	if err != nil || got.Labels["zone"] != "a" || got.Labels["gone"] != "" || !slices.Contains(got.Taints, taint) || !slices.Equal(got.Roles, []string{"control-plane"}) {
		t.Fatalf("node %+v, %v", got, err)
	}
	if err := realClient.SetTaints(ctx, "fake", nil, []Taint{{Key: "mk8s.io/test"}}); err != nil {
		t.Fatal(err)
	}
	if got, err = realClient.Node(ctx, "fake"); err != nil || slices.Contains(got.Taints, taint) {
		t.Fatalf("taint stays: %+v, %v", got, err)
	}
	waited := make(chan error, 1)
	seen := make(chan string, 10)
	go func() { waited <- realClient.WaitNode(ctx, "fake", time.Time{}, func(text string) { seen <- text }) }()
	<-seen
	status := []byte(`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`)
	if _, err := nodes.Patch(ctx, "fake", types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := realClient.DeleteNode(ctx, "fake"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRealDrain(t *testing.T) {
	ctx := realContext(t)
	set := realSet()
	if _, err := set.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "drained"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	text := `
apiVersion: v1
kind: Namespace
metadata: {name: drains}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: runner, namespace: drains}
---
apiVersion: v1
kind: Pod
metadata: {name: guarded, namespace: drains, labels: {app: guarded}}
spec: {serviceAccountName: runner, nodeName: drained, terminationGracePeriodSeconds: 0, containers: [{name: c, image: example.invalid/none}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guard, namespace: drains}
spec: {minAvailable: 1, selector: {matchLabels: {app: guarded}}}
`
	mustApply(ctx, t, ApplyRequest{Inventory: "drains", Objects: parse(t, text)})
	program := filepath.Join(os.Getenv("MK_OUT"), "bin", "kubelite")
	if err := realClient.Drain(ctx, "drained", DrainOptions{Program: program}, nil); err == nil || !strings.Contains(err.Error(), "drains/guarded") {
		t.Fatalf("a pod without a controller: %v", err)
	}
	// A running, ready pod: one that does not run is not protected.
	status := []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
	if _, err := set.CoreV1().Pods("drains").Patch(ctx, "guarded", types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	err := realClient.Drain(ctx, "drained", DrainOptions{Program: program, Force: true, Timeout: 5 * time.Second}, nil)
	var blocked *DrainError
	if !errors.As(err, &blocked) || !errors.Is(err, context.DeadlineExceeded) || len(blocked.Blocked) != 1 ||
		!slices.Equal(blocked.Blocked[0].Budgets, []string{"drains/guard"}) || !blocked.Uncordoned {
		t.Fatalf("blocked drain: %+v, %v", blocked, err)
	}
	if node, err := realClient.Node(ctx, "drained"); err != nil || node.Unschedulable {
		t.Fatalf("the node stays cordoned: %+v, %v", node, err)
	}
	if err := set.PolicyV1().PodDisruptionBudgets("drains").Delete(ctx, "guard", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var told []string
	if err := realClient.Drain(ctx, "drained", DrainOptions{Program: program, Force: true}, func(text string) { told = append(told, text) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(told, "pod drains/guarded is gone") {
		t.Fatalf("progress: %q", told)
	}
	if node, err := realClient.Node(ctx, "drained"); err != nil || !node.Unschedulable {
		t.Fatalf("a drained node takes pods: %+v, %v", node, err)
	}
	if _, err := realClient.Delete(ctx, "drains", DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestRealProbe(t *testing.T) {
	ctx := realContext(t)
	text := "apiVersion: v1\nkind: Service\nmetadata: {name: none, namespace: default}\nspec: {selector: {app: none}, ports: [{port: 80}]}\n" +
		"---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: none, namespace: default}\nspec: {replicas: 1, selector: {matchLabels: {app: none}}, template: {metadata: {labels: {app: none}}, spec: {containers: [{name: c, image: example.invalid/none}]}}}\n"
	mustApply(ctx, t, ApplyRequest{Inventory: "probes", Objects: parse(t, text)})
	o := realClient.Overview(ctx, []ProbeTarget{
		{Version: "v1", Kind: "Service", Namespace: "default", Name: "none"},
		{Version: "v1", Group: "apps", Kind: "Deployment", Namespace: "default", Name: "none"},
		{Version: "v1", Kind: "Namespace", Name: "default"},
		{Version: "v1", Group: "apiregistration.k8s.io", Kind: "APIService", Name: "v1.apps"},
		{Version: "v1", Kind: "Service", Namespace: "default", Name: "absent"},
		{Version: "v1", Kind: "Widget", Group: "nothing.mk8s.io", Namespace: "default", Name: "absent"},
	})
	if o.NodesErr != nil {
		t.Fatal(o.NodesErr)
	}
	want := []struct {
		exists, healthy bool
	}{{true, false}, {true, false}, {true, true}, {true, true}, {false, false}, {false, false}}
	for i, p := range o.Probes {
		if p.Err != nil || p.Exists != want[i].exists || p.Healthy != want[i].healthy || (p.Reason == "") != p.Healthy {
			t.Errorf("probe %+v", p)
		}
	}
	if _, err := realClient.Delete(ctx, "probes", DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}
