package kubeconfig

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Marshal is the text of a config, in kubectl's order and shape. The same config gives the same bytes.
func (c *Config) Marshal() ([]byte, error) {
	clusters, contexts, users := list(), list(), list()
	for _, cl := range c.Clusters {
		clusters.Content = append(clusters.Content, clusterNode(cl))
	}
	for _, x := range c.Contexts {
		contexts.Content = append(contexts.Content, contextNode(x))
	}
	for _, u := range c.Users {
		users.Content = append(users.Content, userNode(u))
	}
	root := mapping()
	put(root, "apiVersion", text("v1"))
	put(root, "clusters", clusters)
	put(root, "contexts", contexts)
	put(root, "current-context", text(c.CurrentContext))
	put(root, "kind", text("Config"))
	put(root, "preferences", &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle})
	put(root, "users", users)
	return encode(root)
}

func encode(root *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	return b.Bytes(), nil
}

func clusterNode(c Cluster) *yaml.Node {
	return named("cluster", mapping(
		"certificate-authority", c.CAFile,
		"certificate-authority-data", base64.StdEncoding.EncodeToString(c.CA),
		"server", c.Server,
		"tls-server-name", c.TLSServerName,
	), c.Name)
}

func contextNode(c Context) *yaml.Node {
	return named("context", mapping("cluster", c.Cluster, "namespace", c.Namespace, "user", c.User), c.Name)
}

func userNode(u User) *yaml.Node {
	n := mapping()
	put(n, "name", text(u.Name))
	put(n, "user", mapping(
		"client-certificate", u.CertFile,
		"client-certificate-data", base64.StdEncoding.EncodeToString(u.Cert),
		"client-key", u.KeyFile,
		"client-key-data", base64.StdEncoding.EncodeToString(u.Key),
		"token", u.Token,
		"tokenFile", u.TokenFile,
	))
	return n
}

func named(kind string, body *yaml.Node, name string) *yaml.Node {
	n := mapping()
	put(n, kind, body)
	put(n, "name", text(name))
	return n
}

// mapping is of keys, each with its value behind it; a key whose value is empty is left out.
func mapping(pairs ...string) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			put(m, pair[0], text(pair[1]))
		}
	}
	return m
}

func list() *yaml.Node { return &yaml.Node{Kind: yaml.SequenceNode} }

// text is a string, whatever it looks like: the encoder puts quotes around 123 and yes.
func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

func put(m *yaml.Node, key string, value *yaml.Node) {
	m.Content = append(m.Content, text(key), value)
}
