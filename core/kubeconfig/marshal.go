package kubeconfig

import (
	"bytes"
	"encoding/base64"
	"fmt"

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
	root := &yaml.Node{Kind: yaml.MappingNode}
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
	body := &yaml.Node{Kind: yaml.MappingNode}
	putText(body, "certificate-authority", c.CAFile)
	putBytes(body, "certificate-authority-data", c.CA)
	putText(body, "server", c.Server)
	putText(body, "tls-server-name", c.TLSServerName)
	return named("cluster", body, c.Name)
}

func contextNode(c Context) *yaml.Node {
	body := &yaml.Node{Kind: yaml.MappingNode}
	putText(body, "cluster", c.Cluster)
	putText(body, "namespace", c.Namespace)
	putText(body, "user", c.User)
	return named("context", body, c.Name)
}

func userNode(u User) *yaml.Node {
	body := &yaml.Node{Kind: yaml.MappingNode}
	putText(body, "client-certificate", u.CertFile)
	putBytes(body, "client-certificate-data", u.Cert)
	putText(body, "client-key", u.KeyFile)
	putBytes(body, "client-key-data", u.Key)
	putText(body, "token", u.Token)
	putText(body, "tokenFile", u.TokenFile)
	n := &yaml.Node{Kind: yaml.MappingNode}
	put(n, "name", text(u.Name))
	put(n, "user", body)
	return n
}

func named(kind string, body *yaml.Node, name string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	put(n, kind, body)
	put(n, "name", text(name))
	return n
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

func putText(m *yaml.Node, key, value string) {
	if value != "" {
		put(m, key, text(value))
	}
}

func putBytes(m *yaml.Node, key string, value []byte) {
	if len(value) > 0 {
		put(m, key, text(base64.StdEncoding.EncodeToString(value)))
	}
}
