package kubeconfig

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Merge puts our clusters, contexts and users into somebody's kubeconfig, and makes our context the current one. An entry
// of one of our names is replaced, everything else is kept: order, comments, keys that mk does not know. existing may be
// empty. What changed is returned in words, nothing changed as none; then the bytes are existing's own.
//
// Whoever has another `admin` than ours keeps it: before merging, see Unique.
func Merge(file string, existing []byte, ours *Config) ([]byte, []string, error) {
	if err := ours.Check(); err != nil {
		return nil, nil, fmt.Errorf("merge into %s: ours: %w", file, err)
	}
	root, err := load(file, existing)
	if err != nil {
		return nil, nil, err
	}
	if root == nil {
		text, err := ours.Marshal()
		return text, []string{"new file with context " + ours.CurrentContext}, err
	}
	m := &merger{file: file, root: root}
	for _, c := range ours.Clusters {
		m.put("clusters", "cluster", c.Name, clusterNode(c))
	}
	for _, u := range ours.Users {
		m.put("users", "user", u.Name, userNode(u))
	}
	for _, c := range ours.Contexts {
		m.put("contexts", "context", c.Name, contextNode(c))
	}
	m.current(ours.CurrentContext)
	if len(m.faults) > 0 {
		return nil, nil, errors.Join(m.faults...)
	}
	if len(m.changes) == 0 {
		return existing, nil, nil
	}
	text, err := encode(root)
	if err != nil {
		return nil, nil, fmt.Errorf("merge into %s: %w", file, err)
	}
	// An entry that was replaced may have held an anchor that another one refers to.
	if _, err := load(file, text); err != nil {
		return nil, nil, fmt.Errorf("%s: it shares values between entries (YAML anchors); write the context into another file", file)
	}
	return text, m.changes, nil
}

type merger struct {
	file    string
	root    *yaml.Node
	changes []string
	faults  []error
}

func (m *merger) fault(n *yaml.Node, format string, args ...any) {
	m.faults = append(m.faults, fmt.Errorf("%s:%d: %s", m.file, n.Line, fmt.Sprintf(format, args...)))
}

// field is the value of a key, which must not be there twice: the one we changed could be the one that nobody reads.
func (m *merger) field(key string) *yaml.Node {
	var found *yaml.Node
	for i := 0; i+1 < len(m.root.Content); i += 2 {
		if m.root.Content[i].Value != key {
			continue
		}
		if found != nil {
			m.fault(m.root.Content[i], "%s is set twice", key)
		}
		found = m.root.Content[i+1]
	}
	return found
}

func (m *merger) put(key, kind, name string, node *yaml.Node) {
	seq := m.field(key)
	if seq == nil {
		seq = list()
		put(m.root, key, seq)
	}
	if seq.Kind == yaml.ScalarNode && seq.ShortTag() == "!!null" {
		*seq = *list()
	}
	if seq.Kind != yaml.SequenceNode {
		m.fault(seq, "%s is not a list", key)
		return
	}
	at := slices.IndexFunc(seq.Content, func(n *yaml.Node) bool { return entryName(n) == name })
	switch {
	case at < 0:
		if len(seq.Content) == 0 {
			seq.Style &^= yaml.FlowStyle
		}
		seq.Content = append(seq.Content, node)
		m.changes = append(m.changes, fmt.Sprintf("%s %s added", kind, name))
	case !sameNode(seq.Content[at], node):
		old := seq.Content[at]
		node.HeadComment, node.FootComment = old.HeadComment, old.FootComment
		seq.Content[at] = node
		m.changes = append(m.changes, fmt.Sprintf("%s %s replaced", kind, name))
	}
	for _, n := range seq.Content[max(at+1, 0):] {
		if at >= 0 && entryName(n) == name {
			m.fault(n, "there is a second %s %.80q", kind, name)
		}
	}
}

func (m *merger) current(name string) {
	n := m.field("current-context")
	switch {
	case n == nil:
		put(m.root, "current-context", text(name))
	case n.Kind != yaml.ScalarNode:
		m.fault(n, "current-context is not text")
		return
	case n.Value == name:
		return
	default:
		n.SetString(name)
		n.Style = 0
	}
	m.changes = append(m.changes, "current-context is "+name)
}

// entryName is the name of an entry of one of the three lists, or empty.
func entryName(n *yaml.Node) string {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "name" {
			return n.Content[i+1].Value
		}
	}
	return ""
}

// sameNode compares what two entries say, not how they are written.
func sameNode(a, b *yaml.Node) bool {
	if a.Kind == yaml.AliasNode {
		return false
	}
	var va, vb any
	if a.Decode(&va) != nil || b.Decode(&vb) != nil {
		return false
	}
	ta, err := yaml.Marshal(va)
	if err != nil {
		return false
	}
	tb, err := yaml.Marshal(vb)
	return err == nil && bytes.Equal(ta, tb)
}

// Unique is ours under names that are its own: NAME for cluster and context, NAME-USER for the user. In a file of several
// clusters a user called admin is somebody else's as likely as not.
func Unique(ours *Config, name string) (*Config, error) {
	cl, u, err := ours.Current()
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, errors.New("kubeconfig: a context needs a name")
	}
	x := Context{Name: name, Cluster: name, User: name + "-" + u.Name}
	for _, old := range ours.Contexts {
		if old.Name == ours.CurrentContext {
			x.Namespace = old.Namespace
		}
	}
	cl.Name, u.Name = x.Cluster, x.User
	return &Config{Clusters: []Cluster{cl}, Contexts: []Context{x}, Users: []User{u}, CurrentContext: name}, nil
}
