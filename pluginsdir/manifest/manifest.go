// Package manifest reads plugin.yaml: who a plugin is, what it speaks, what it
// may do and which programs it consists of. It says whether a manifest is well
// formed, whether this mk can work with it, how dangerous its grants are and
// whether the program tells the same. It starts nothing and reads no other file.
package manifest

import (
	"encoding/json"
	"time"

	"mk8s.io/mk/pluginsdir/strict"
	"mk8s.io/mk/sdk/plugin"
)

// What every manifest begins with.
const (
	APIVersion = "mk8s.io/v1"
	Kind       = "Plugin"
	FileName   = "plugin.yaml"
)

// MaxSize is how large a manifest may be.
const MaxSize = 1 << 20

// AnyArch stands for programs that run on every architecture: scripts.
const AnyArch = "any"

// Bounds of what a manifest may ask for.
const (
	MaxStartTimeout    = time.Minute
	MaxQuestionTimeout = 10 * time.Minute
)

// Manifest is a plugin.yaml that was checked.
type Manifest struct {
	APIVersion   string                   `json:"apiVersion"`
	Kind         string                   `json:"kind"`
	Identity     Identity                 `json:"identity"`
	Contracts    []string                 `json:"contracts"`
	Capabilities []string                 `json:"capabilities,omitempty"`
	Requires     Requires                 `json:"requires,omitzero"`
	Platforms    []Platform               `json:"platforms"`
	Grants       plugin.Grants            `json:"grants,omitzero"`
	Settings     json.RawMessage          `json:"settings,omitempty"` // JSON Schema; secrets are writeOnly
	Steps        []plugin.StepDescription `json:"steps,omitempty"`
	Exportable   bool                     `json:"exportable,omitempty"`
	Routes       []plugin.Route           `json:"routes,omitempty"`
	Timeouts     Timeouts                 `json:"timeouts,omitzero"`
}

// Identity is who the plugin is, with what people want to read.
type Identity struct {
	plugin.Identity
	Description string `json:"description,omitempty"`
	Homepage    string `json:"homepage,omitempty"`
}

// Requires says with which mk the plugin works.
type Requires struct {
	MK string `json:"mk,omitempty"` // a semver constraint
}

// Platform is the program for one kind of machine.
type Platform struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"` // of Go's names, or "any"
	Bin    string `json:"bin"`  // path in the plugin's folder
	SHA256 string `json:"sha256"`
}

// Timeouts are wishes: the host grants at most its own bounds.
type Timeouts struct {
	Start     Duration            `json:"start,omitempty"`
	Questions map[string]Duration `json:"questions,omitempty"` // by the question's name: Sign
}

// Duration is text like "30s".
type Duration string

// Value is the duration, or otherwise where none is given.
func (d Duration) Value(otherwise time.Duration) time.Duration {
	if v, err := time.ParseDuration(string(d)); err == nil {
		return v
	}
	return otherwise
}

// Parse reads a manifest from anywhere and checks all of it; file is the name
// for messages. The error is of type strict.Faults and names every fault.
func Parse(data []byte, file string) (*Manifest, error) {
	return parse(data, file, true)
}

// ParseStored reads a manifest that Parse accepted before and that cannot have
// changed since. It spares the compilation of the settings schema.
func ParseStored(data []byte, file string) (*Manifest, error) {
	return parse(data, file, false)
}

func parse(data []byte, file string, schema bool) (*Manifest, error) {
	d, err := strict.Read(data, file, MaxSize)
	if err != nil {
		return nil, err
	}
	var m Manifest
	d.Decode(&m)
	check(d, &m)
	if schema && len(m.Settings) > 0 {
		checkSchema(d, &m)
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return &m, nil
}

// Program is the program for a machine: the one of its architecture, else the
// one for any.
func (m *Manifest) Program(os, arch string) (Platform, bool) {
	return ProgramFor(m.Platforms, os, arch)
}

// ProgramFor chooses from a list of programs, as Manifest.Program does.
func ProgramFor(programs []Platform, os, arch string) (Platform, bool) {
	var general Platform
	for _, p := range programs {
		switch {
		case p.OS != os:
		case p.Arch == arch:
			return p, true
		case p.Arch == AnyArch:
			general = p
		}
	}
	return general, general.Bin != ""
}
