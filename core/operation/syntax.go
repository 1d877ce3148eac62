package operation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"
)

// checked are files that people may edit and only services read, with what
// tells whether they can be. What stands in them, the service judges.
func checked() map[string]func(file string, data []byte) error {
	return map[string]func(string, []byte) error{
		"args/containerd.toml":            checkTOML,
		"args/kubelet-config.yaml":        checkYAML,
		"args/cni-network/mk.conflist.in": checkTemplate,
		"args/flannel-network-mgr-config": checkJSON,
	}
}

// faultAt names a line of a file; 1 where none is known.
func faultAt(file string, line int, err error) error {
	return fmt.Errorf("%s:%d: %w", file, max(line, 1), err)
}

func checkTOML(file string, data []byte) error {
	var any map[string]any
	err := toml.Unmarshal(data, &any)
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := e.Position()
		return faultAt(file, line, err)
	}
	if err != nil {
		return faultAt(file, 1, err)
	}
	return nil
}

// yamlAt is the line in an error of the yaml package.
var yamlAt = regexp.MustCompile(`^yaml: line (\d+): `) //nolint:gochecknoglobals // a constant

func checkYAML(file string, data []byte) error {
	var any map[string]any
	err := yaml.Unmarshal(data, &any)
	if err == nil {
		return nil
	}
	if m := yamlAt.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s:%s: %s", file, m[1], strings.TrimPrefix(err.Error(), m[0]))
	}
	return faultAt(file, 1, err)
}

func checkJSON(file string, data []byte) error {
	var any map[string]any
	err := json.Unmarshal(data, &any)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return faultAt(file, 1+bytes.Count(data[:min(int(e.Offset), len(data))], []byte("\n")), err)
	}
	if err != nil {
		return faultAt(file, 1, err)
	}
	return nil
}

// checkTemplate looks at a template; its error names file and line.
func checkTemplate(file string, data []byte) error {
	_, err := template.New(file).Parse(string(data))
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "template: ")) //nolint:err113 // it is the package's text
	}
	return nil
}
