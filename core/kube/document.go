package kube

import (
	"context"
	"fmt"
	"maps"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
)

// DocumentKind is where a document is stored.
type DocumentKind string

// The two kinds of documents: what everyone may know, and secrets.
const (
	PlainDocument  DocumentKind = "ConfigMap"
	SecretDocument DocumentKind = "Secret"
)

// Document is a ConfigMap or Secret that mk keeps data in.
type Document struct {
	Kind            DocumentKind
	Namespace, Name string
	Labels          map[string]string
	Data            map[string][]byte
	// Version is the resource version that was read; empty for a document that is not stored yet.
	Version string
}

// ReadDocument reads a document; where it does not exist, NotFound is true for the error.
func (c *Client) ReadDocument(ctx context.Context, kind DocumentKind, namespace, name string) (Document, error) {
	var obj runtime.Object
	var err error
	if kind == SecretDocument {
		obj, err = c.typed.secrets(namespace).get(ctx, name)
	} else {
		obj, err = c.typed.configMaps(namespace).get(ctx, name)
	}
	if err != nil {
		return Document{}, fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, err)
	}
	return documentFrom(obj), nil
}

// ListDocuments lists the documents of one kind that carry the labels of a selector.
func (c *Client) ListDocuments(ctx context.Context, kind DocumentKind, namespace, selector string) ([]Document, error) {
	src := c.documentSource(kind, namespace, metav1.ListOptions{LabelSelector: selector})
	set, _, err := listAll(ctx, src)
	if err != nil {
		return nil, fmt.Errorf("list %ss in %s: %w", kind, namespace, err)
	}
	docs := make([]Document, 0, len(set))
	for _, obj := range set {
		docs = append(docs, documentFrom(obj))
	}
	return docs, nil
}

// WriteDocument stores a document and gives it back with its new version. A document without a version is created, one
// with a version replaced if it still has that version; else Conflict is true for the error, and nothing has changed.
func (c *Client) WriteDocument(ctx context.Context, doc Document) (Document, error) {
	meta := metav1.ObjectMeta{Namespace: doc.Namespace, Name: doc.Name, Labels: doc.Labels, ResourceVersion: doc.Version}
	var obj runtime.Object
	var err error
	if doc.Kind == SecretDocument {
		obj, err = c.typed.secrets(doc.Namespace).write(ctx, meta, &corev1.Secret{ObjectMeta: meta, Data: doc.Data})
	} else {
		obj, err = c.typed.configMaps(doc.Namespace).write(ctx, meta, configMapFrom(meta, doc.Data))
	}
	if err != nil {
		return Document{}, fmt.Errorf("write %s %s/%s: %w", doc.Kind, doc.Namespace, doc.Name, err)
	}
	return documentFrom(obj), nil
}

// DeleteDocument removes a document if it still has the version that was read; one that is gone is no error.
func (c *Client) DeleteDocument(ctx context.Context, doc Document) error {
	opts := metav1.DeleteOptions{}
	if doc.Version != "" {
		opts.Preconditions = &metav1.Preconditions{ResourceVersion: &doc.Version}
	}
	var err error
	if doc.Kind == SecretDocument {
		err = c.typed.secrets(doc.Namespace).delete(ctx, doc.Name, opts)
	} else {
		err = c.typed.configMaps(doc.Namespace).delete(ctx, doc.Name, opts)
	}
	if err != nil && !NotFound(err) {
		return fmt.Errorf("delete %s %s/%s: %w", doc.Kind, doc.Namespace, doc.Name, err)
	}
	return nil
}

// WatchDocument calls see with a document and then each time it changes, with exists false while there is none, until the
// context ends, which is the error. trouble, which may be nil, hears why the API server cannot be asked meanwhile.
func (c *Client) WatchDocument(ctx context.Context, kind DocumentKind, namespace, name string, see func(doc Document, exists bool), trouble func(error)) error {
	src := c.documentSource(kind, namespace, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	seen := "never"
	err := follow(ctx, src, observer{trouble: trouble, see: func(set watched, _ []string) (bool, error) {
		doc := Document{Kind: kind, Namespace: namespace, Name: name}
		obj, exists := set[namespace+"/"+name]
		if exists {
			doc = documentFrom(obj)
		}
		if doc.Version != seen {
			seen = doc.Version
			see(doc, exists)
		}
		return false, nil
	}})
	return fmt.Errorf("watch %s %s/%s: %w", kind, namespace, name, err)
}

// WatchDocuments calls see with all documents that carry the labels of a selector and then with those that changed, until
// see answers true, or the context ends, which is the error. Of one that is deleted it says nothing. trouble, which may be
// nil, hears why the API server cannot be asked meanwhile.
func (c *Client) WatchDocuments(ctx context.Context, kind DocumentKind, namespace, selector string, see func(changed []Document) bool, trouble func(error)) error {
	src := c.documentSource(kind, namespace, metav1.ListOptions{LabelSelector: selector})
	err := follow(ctx, src, observer{trouble: trouble, see: func(set watched, changed []string) (bool, error) {
		docs := make([]Document, 0, len(changed))
		for _, key := range changed {
			if obj, ok := set[key]; ok {
				docs = append(docs, documentFrom(obj))
			}
		}
		return see(docs), nil
	}})
	if err != nil {
		return fmt.Errorf("watch %ss in %s: %w", kind, namespace, err)
	}
	return nil
}

func (c *Client) documentSource(kind DocumentKind, namespace string, narrow metav1.ListOptions) source {
	if kind == SecretDocument {
		return c.typed.secrets(namespace).source(narrow)
	}
	return c.typed.configMaps(namespace).source(narrow)
}

func documentFrom(obj runtime.Object) Document {
	switch o := obj.(type) {
	case *corev1.Secret:
		return Document{Kind: SecretDocument, Namespace: o.Namespace, Name: o.Name, Labels: o.Labels, Data: maps.Clone(o.Data), Version: o.ResourceVersion}
	case *corev1.ConfigMap:
		data := make(map[string][]byte, len(o.Data)+len(o.BinaryData))
		for k, v := range o.Data {
			data[k] = []byte(v)
		}
		maps.Copy(data, o.BinaryData)
		return Document{Kind: PlainDocument, Namespace: o.Namespace, Name: o.Name, Labels: o.Labels, Data: data, Version: o.ResourceVersion}
	}
	return Document{}
}

// configMapFrom keeps text readable for people and everything else as bytes.
func configMapFrom(meta metav1.ObjectMeta, data map[string][]byte) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{}}
	for k, v := range data {
		if utf8.Valid(v) {
			cm.Data[k] = string(v)
			continue
		}
		if cm.BinaryData == nil {
			cm.BinaryData = map[string][]byte{}
		}
		cm.BinaryData[k] = v
	}
	return cm
}
