package kube

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// What ParseManifests takes at most.
const (
	ManifestBytesMost   = 8 << 20
	ManifestObjectsMost = 2000
	listDepthMost       = 4
)

// Object is one Kubernetes object of a manifest and where it stands.
type Object struct {
	*unstructured.Unstructured
	// File, Document (from 1) and Line (where the document begins, from 1) are for messages.
	File     string
	Document int
	Line     int
}

// Ref names the object.
func (o Object) Ref() Ref { return refOf(o.Unstructured) }

// Where is file:line, for messages.
func (o Object) Where() string { return fmt.Sprintf("%s:%d", o.File, o.Line) }

// Ref names a Kubernetes object.
type Ref struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

func refOf(u *unstructured.Unstructured) Ref {
	gvk := u.GroupVersionKind()
	return Ref{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: u.GetNamespace(), Name: u.GetName()}
}

// String is Kind.group namespace/name.
func (r Ref) String() string {
	s := r.Kind
	if r.Group != "" {
		s += "." + r.Group
	}
	s += " "
	if r.Namespace != "" {
		s += r.Namespace + "/"
	}
	return s + r.Name
}

// GVK is the object's group, version and kind.
func (r Ref) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}

// identity is the reference without the version: one object is served in several.
func (r Ref) identity() Ref {
	r.Version = ""
	return r
}

// ParseManifests reads objects from YAML or JSON: many documents, lists flattened. An error names file, line and document
// number. It refuses what cannot be applied twice with the same meaning: objects without a name or with generateName, one
// object twice, a key twice in a mapping; and what is bigger than its limits.
func ParseManifests(data []byte, file string) ([]Object, error) {
	if len(data) > ManifestBytesMost {
		return nil, fmt.Errorf("%s: %d bytes of manifests, at most %d are read", file, len(data), ManifestBytesMost)
	}
	docs, err := splitDocuments(data)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	p := parser{file: file, seen: map[Ref]Object{}}
	for i, doc := range docs {
		if err := p.document(doc, i+1); err != nil {
			return nil, err
		}
	}
	return p.objects, nil
}

type parser struct {
	file    string
	objects []Object
	seen    map[Ref]Object
}

func (p *parser) document(doc document, number int) error {
	fail := func(err error) error {
		line, text := doc.line, err.Error()
		if m := yamlLine.FindStringSubmatchIndex(text); m != nil {
			if n, convErr := strconv.Atoi(text[m[2]:m[3]]); convErr == nil {
				line, text = doc.first+n-1, text[:m[0]]+text[m[1]:]
			}
		}
		return fmt.Errorf("%s:%d: document %d: %s", p.file, line, number, text)
	}
	raw, err := yaml.YAMLToJSONStrict(doc.text)
	if err != nil {
		return fail(err)
	}
	if string(bytes.TrimSpace(raw)) == "null" {
		return nil
	}
	var content map[string]any
	if err := utiljson.Unmarshal(raw, &content); err != nil {
		return fail(fmt.Errorf("not an object: %w", err))
	}
	where := Object{File: p.file, Document: number, Line: doc.line}
	if err := p.add(content, where, 0); err != nil {
		return fail(err)
	}
	return nil
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

func (p *parser) add(content map[string]any, where Object, depth int) error {
	where.Unstructured = &unstructured.Unstructured{Object: content}
	kind, _ := content["kind"].(string)
	if items, ok := content["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		if depth >= listDepthMost {
			return fmt.Errorf("lists nested deeper than %d", listDepthMost)
		}
		for i, item := range items {
			inner, ok := item.(map[string]any)
			if !ok {
				return fmt.Errorf("item %d of the %s is not an object", i+1, kind)
			}
			if err := p.add(inner, where, depth+1); err != nil {
				return fmt.Errorf("item %d of the %s: %w", i+1, kind, err)
			}
		}
		return nil
	}
	if err := checkObject(where.Unstructured); err != nil {
		return err
	}
	if len(p.objects) >= ManifestObjectsMost {
		return fmt.Errorf("more than %d objects", ManifestObjectsMost)
	}
	id := where.Ref().identity()
	if before, ok := p.seen[id]; ok {
		return fmt.Errorf("%s is given twice, first at %s (document %d)", where.Ref(), before.Where(), before.Document)
	}
	p.seen[id] = where
	p.objects = append(p.objects, where)
	return nil
}

var (
	kindPattern    = atFirst(`^[A-Za-z][A-Za-z0-9]{0,62}$`)
	versionPattern = atFirst(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// atFirst compiles an expression when it is first used: most runs of mk need
// none, and bounded repetitions are large.
func atFirst(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// checkObject refuses whatever could mean another URL than the object's own, and what the API server cannot take as an
// object with a fixed name. It never panics on content of an unexpected shape.
func checkObject(u *unstructured.Unstructured) error {
	apiVersion, ok := u.Object["apiVersion"].(string)
	if !ok || apiVersion == "" {
		return errors.New("apiVersion is missing")
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return fmt.Errorf("apiVersion %q: %w", apiVersion, err)
	}
	if !versionPattern().MatchString(gv.Version) || (gv.Group != "" && len(validation.IsDNS1123Subdomain(gv.Group)) > 0) {
		return fmt.Errorf("apiVersion %q is not <group>/<version>", apiVersion)
	}
	kind, _ := u.Object["kind"].(string)
	if !kindPattern().MatchString(kind) {
		return fmt.Errorf("kind %q is missing or malformed", kind)
	}
	meta, ok := u.Object["metadata"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s: metadata is missing", kind)
	}
	if generate, ok := meta["generateName"]; ok && generate != "" {
		return fmt.Errorf("%s: generateName makes another object each time it is applied; give it a name", kind)
	}
	name, _ := meta["name"].(string)
	if err := checkName(name); err != nil {
		return fmt.Errorf("%s: metadata.name: %w", kind, err)
	}
	switch namespace := meta["namespace"].(type) {
	case nil:
	case string:
		if problems := validation.IsDNS1123Label(namespace); namespace != "" && len(problems) > 0 {
			return fmt.Errorf("%s %s: metadata.namespace %q: %s", kind, name, namespace, problems[0])
		}
	default:
		return fmt.Errorf("%s %s: metadata.namespace is not text", kind, name)
	}
	return checkText(meta, kind+" "+name, "labels", "annotations")
}

// checkName is the rule that every kind of object shares: one segment of a path. RBAC names, for one, may hold colons.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("is missing")
	case len(name) > 253:
		return errors.New("is longer than 253")
	case name == "." || name == ".." || strings.ContainsAny(name, "/%"):
		return fmt.Errorf("%q may not be . or .. or hold / or %%", name)
	}
	for _, r := range name {
		if r <= ' ' || r == 0x7f {
			return fmt.Errorf("%q holds a space or control character", name)
		}
	}
	return nil
}

func checkText(meta map[string]any, what string, fields ...string) error {
	for _, field := range fields {
		value, ok := meta[field]
		if !ok || value == nil {
			continue
		}
		entries, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: metadata.%s is not a mapping", what, field)
		}
		for k, v := range entries {
			if _, ok := v.(string); !ok {
				return fmt.Errorf("%s: metadata.%s[%s] is not text: put it in quotes", what, field, k)
			}
		}
	}
	return nil
}
