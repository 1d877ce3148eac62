package kube

import (
	"strings"
	"testing"
)

func TestParseManifests(t *testing.T) {
	t.Parallel()
	cm := func(name string) string { return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n" }
	tests := []struct {
		name, text string
		want       string // objects as "line Kind name", or the error
		fails      bool
	}{
		{"nothing", "", "", false},
		{"comments only", "# a\n---\n# b\n", "", false},
		{"one", cm("a"), "1 ConfigMap a", false},
		{"two with comments", "# top\n---\n\n# first\n" + cm("a") + "--- # next\n" + cm("b"), "5 ConfigMap a;9 ConfigMap b", false},
		{"end mark", cm("a") + "...\n" + cm("b"), "1 ConfigMap a;5 ConfigMap b", false},
		{"windows lines", strings.ReplaceAll(cm("a")+"---\n"+cm("b"), "\n", "\r\n"), "1 ConfigMap a;5 ConfigMap b", false},
		{"json", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}`, "1 Secret s", false},
		{"list", `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}},{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"t"}}]}]}`, "1 Secret s;1 Secret t", false},
		{"items that are no list", "apiVersion: x.io/v1\nkind: Menu\nmetadata: {name: m}\nitems: [a]\n", "1 Menu m", false},
		{"twice", cm("a") + "---\n" + cm("a"), "f:5: document 2: ConfigMap a is given twice, first at f:1 (document 1)", true},
		{"twice in two versions", "apiVersion: x.io/v1\nkind: W\nmetadata: {name: a}\n---\napiVersion: x.io/v2\nkind: W\nmetadata: {name: a}\n", "given twice", true},
		{"generateName", "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n", "f:1: document 1: Pod: generateName", true},
		{"no name", "apiVersion: v1\nkind: Pod\nmetadata: {}\n", "metadata.name: is missing", true},
		{"no metadata", "apiVersion: v1\nkind: Pod\n", "metadata is missing", true},
		{"no kind", "apiVersion: v1\nmetadata: {name: a}\n", "kind", true},
		{"path in a name", "apiVersion: v1\nkind: Pod\nmetadata: {name: ../../nodes/x}\n", "may not be", true},
		{"path in a group", "apiVersion: ../v1\nkind: Pod\nmetadata: {name: x}\n", "apiVersion", true},
		{"path in a namespace", "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: a/b}\n", "namespace", true},
		{"label of a number", "apiVersion: v1\nkind: Pod\nmetadata: {name: x, labels: {a: 1}}\n", "put it in quotes", true},
		{"key twice", "# c\n" + cm("a") + "kind: Pod\n", "f:5: document 1:", true},
		{"syntax, second document", cm("a") + "---\nx: [\n", "document 2", true},
		{"content behind the mark", "--- {a: 1}\n", "f:1: content behind", true},
		{"scalar", "just text\n", "not an object", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			objects, err := ParseManifests([]byte(tt.text), "f")
			if tt.fails {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("error %v, want one with %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range objects {
				got = append(got, strings.TrimPrefix(o.Where(), "f:")+" "+o.GetKind()+" "+o.GetName())
			}
			if strings.Join(got, ";") != tt.want {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseManifestsIsCapped(t *testing.T) {
	t.Parallel()
	if _, err := ParseManifests(make([]byte, ManifestBytesMost+1), "f"); err == nil {
		t.Fatal("too many bytes were read")
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [*" + strings.Repeat(p+",*", 8) + p + "]\n"
	}
	if _, err := ParseManifests([]byte(bomb), "f"); err == nil {
		t.Fatal("aliases of aliases were expanded")
	}
}

func FuzzParseManifests(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n{\"kind\":\"List\",\"items\":[{}]}"))
	f.Add([]byte("kind: List\napiVersion: v1\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: x, labels: 3}}]"))
	f.Add([]byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: kube-system}\nspec: 1\n"))
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{securityContext: {privileged: true}}]}\n"))
	c, err := NewClassifier()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := ParseManifests(data, "f")
		if err != nil {
			return
		}
		c.Classify(objects...)
		for _, o := range objects {
			HealthOf(o.Unstructured)
			if err := checkEntry(entry{Ref: o.Ref()}); err != nil {
				t.Fatalf("%s is parsed and cannot be recorded: %v", o.Ref(), err)
			}
		}
	})
}
