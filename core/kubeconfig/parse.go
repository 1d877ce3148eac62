package kubeconfig

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxSize is the longest file that is read.
const MaxSize = 1 << 20

// Parse reads a kubeconfig such as New writes; file is its name in messages. Unknown and repeated keys, anchors and
// kinds of credentials that mk does not use are errors, all of them with file and line.
func Parse(file string, data []byte) (*Config, error) {
	root, err := load(file, data)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, fmt.Errorf("%s: it is empty", file)
	}
	r := &reader{file: file}
	c := r.config(root)
	if len(r.faults) == 0 {
		if err := c.Check(); err != nil {
			r.faults = append(r.faults, fmt.Errorf("%s: %w", file, err))
		}
	}
	if len(r.faults) > 0 {
		return nil, errors.Join(r.faults...)
	}
	return c, nil
}

// load is the top mapping of the one document in data, or nil where there is none.
func load(file string, data []byte) (*yaml.Node, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d allowed", file, len(data), MaxSize)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil //nolint:nilnil // no document is no mapping, and no fault
	case err != nil:
		return nil, syntaxError(file, err)
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: it holds more than one YAML document", file)
	}
	if len(doc.Content) != 1 {
		return nil, nil //nolint:nilnil // as above
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil //nolint:nilnil // as above
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: a kubeconfig is a mapping of keys and values", file, root.Line)
	}
	return root, nil
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// syntaxError keeps the line of the library's message and drops the rest, which may quote the text.
func syntaxError(file string, err error) error {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s:%s: this is not YAML: look for wrong indentation, a missing colon or quote", file, m[1])
	}
	// The library leaves the number of the first line out.
	return fmt.Errorf("%s:1: this is not YAML", file)
}

// reader walks the tree and collects faults.
type reader struct {
	file   string
	faults []error
}

const maxFaults = 20

func (r *reader) fault(n *yaml.Node, format string, args ...any) {
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, fmt.Errorf("%s:%d: %s", r.file, n.Line, fmt.Sprintf(format, args...)))
	}
}

// fields calls what belongs to each key of a mapping.
func (r *reader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, "%s is not a mapping", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		f := known[k.Value]
		switch {
		case k.Kind != yaml.ScalarNode || f == nil:
			r.fault(k, "%.40q is not a key of %s that mk knows", k.Value, what)
		case seen[k.Value]:
			r.fault(k, "%s is set twice", k.Value)
		default:
			seen[k.Value] = true
			f(v)
		}
	}
}

func (r *reader) text(key string, into *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			r.fault(n, "%s is not text", key)
			return
		}
		*into = n.Value
	}
}

func (r *reader) bytes(key string, into *[]byte) func(*yaml.Node) {
	return func(n *yaml.Node) {
		var s string
		before := len(r.faults)
		r.text(key, &s)(n)
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
		if err != nil || len(b) == 0 && before == len(r.faults) {
			r.fault(n, "%s is not base64 of something", key)
			return
		}
		*into = b
	}
}

func (r *reader) each(what string, f func(*yaml.Node)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.SequenceNode {
			r.fault(n, "%s is not a list", what)
			return
		}
		for _, item := range n.Content {
			f(item)
		}
	}
}

func (r *reader) fixed(key, want string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Value != want {
			r.fault(n, "%s is not %s", key, want)
		}
	}
}

func (r *reader) config(root *yaml.Node) *Config {
	c := &Config{}
	r.fields(root, "a kubeconfig", map[string]func(*yaml.Node){
		"apiVersion":      r.fixed("apiVersion", "v1"),
		"kind":            r.fixed("kind", "Config"),
		"current-context": r.text("current-context", &c.CurrentContext),
		"preferences": func(n *yaml.Node) {
			r.fields(n, "preferences", nil)
		},
		"clusters": r.each("clusters", func(n *yaml.Node) { c.Clusters = append(c.Clusters, r.cluster(n)) }),
		"contexts": r.each("contexts", func(n *yaml.Node) { c.Contexts = append(c.Contexts, r.context(n)) }),
		"users":    r.each("users", func(n *yaml.Node) { c.Users = append(c.Users, r.user(n)) }),
	})
	return c
}

func (r *reader) cluster(n *yaml.Node) (c Cluster) {
	r.entry(n, "cluster", &c.Name, map[string]func(*yaml.Node){
		"server":                     r.text("server", &c.Server),
		"certificate-authority":      r.text("certificate-authority", &c.CAFile),
		"certificate-authority-data": r.bytes("certificate-authority-data", &c.CA),
		"tls-server-name":            r.text("tls-server-name", &c.TLSServerName),
	})
	return c
}

func (r *reader) context(n *yaml.Node) (c Context) {
	r.entry(n, "context", &c.Name, map[string]func(*yaml.Node){
		"cluster":   r.text("cluster", &c.Cluster),
		"user":      r.text("user", &c.User),
		"namespace": r.text("namespace", &c.Namespace),
	})
	return c
}

func (r *reader) user(n *yaml.Node) (u User) {
	r.entry(n, "user", &u.Name, map[string]func(*yaml.Node){
		"client-certificate":      r.text("client-certificate", &u.CertFile),
		"client-certificate-data": r.bytes("client-certificate-data", &u.Cert),
		"client-key":              r.text("client-key", &u.KeyFile),
		"client-key-data":         r.bytes("client-key-data", &u.Key),
		"token":                   r.text("token", &u.Token),
		"tokenFile":               r.text("tokenFile", &u.TokenFile),
	})
	return u
}

// entry reads an entry of one of the three lists: its name, and what it has under its kind.
func (r *reader) entry(n *yaml.Node, kind string, name *string, known map[string]func(*yaml.Node)) {
	r.fields(n, "an entry of "+kind+"s", map[string]func(*yaml.Node){
		"name": r.text("name", name),
		kind:   func(n *yaml.Node) { r.fields(n, "a "+kind, known) },
	})
}
