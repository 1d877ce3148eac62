package kube

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A dry run compares what mk asks for, and nothing that others say meanwhile.
func TestSame(t *testing.T) {
	t.Parallel()
	object := func(change func(o map[string]any)) *unstructured.Unstructured {
		mine := map[string]any{"manager": FieldManager, "operation": "Apply", "time": "2026-11-26T10:00:00Z", "fieldsV1": map[string]any{"f:spec": map[string]any{}}}
		o := map[string]any{
			"kind": "Widget", "spec": map[string]any{"size": int64(3)},
			"metadata": map[string]any{"name": "w", "resourceVersion": "7", "generation": int64(1), "managedFields": []any{mine}},
		}
		change(o)
		return &unstructured.Unstructured{Object: o}
	}
	meta := func(o map[string]any) map[string]any { return o["metadata"].(map[string]any) }
	before := object(func(map[string]any) {})
	for what, c := range map[string]struct {
		same   bool
		change func(o map[string]any)
	}{
		"nothing":                {true, func(map[string]any) {}},
		"a controller's report":  {true, func(o map[string]any) { o["status"] = map[string]any{"seen": int64(1)} }},
		"the version":            {true, func(o map[string]any) { meta(o)["resourceVersion"] = "8" }},
		"when mk got its fields": {true, func(o map[string]any) { meta(o)["managedFields"].([]any)[0].(map[string]any)["time"] = "later" }},
		"another manager": {true, func(o map[string]any) {
			meta(o)["managedFields"] = append(meta(o)["managedFields"].([]any), map[string]any{"manager": "c"})
		}},
		"the specification": {false, func(o map[string]any) { o["spec"].(map[string]any)["size"] = int64(4) }},
		"a label":           {false, func(o map[string]any) { meta(o)["labels"] = map[string]any{"a": "b"} }},
		"which fields mk owns": {false, func(o map[string]any) {
			meta(o)["managedFields"].([]any)[0].(map[string]any)["fieldsV1"] = map[string]any{}
		}},
		"that mk owns any at all": {false, func(o map[string]any) { meta(o)["managedFields"] = []any{map[string]any{"manager": "c"}} }},
	} {
		after := object(c.change)
		if got := same(before, after); got != c.same {
			t.Errorf("%s differs: the same is %t", what, got)
		}
	}
}
