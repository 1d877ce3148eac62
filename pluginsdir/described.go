package pluginsdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/pluginsdir/problem"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

const maxDescribed = 8 << 20

// Described is what a plugin answered to the questions that change nothing. It
// is kept by digest, so that commands that only read start no plugin.
type Described struct {
	Description plugin.Description                     `json:"description"`
	Addons      []addons.Addon                         `json:"addons,omitempty"`
	Probes      map[string][]changeset.ObjectReference `json:"probes,omitempty"` // by addon
}

// CheckDescribed compares what a plugin said with its manifest; errors.Is finds
// ErrRefused where they differ.
func CheckDescribed(m *manifest.Manifest, said *Described) error {
	diff := m.Equal(said.Description)
	if len(diff) == 0 {
		return nil
	}
	return problem.Refused(
		fmt.Sprintf("plugin %s %s is not what its manifest says", m.Identity.Identity, m.Identity.Version),
		strings.Join(diff, "; "), "ask its publisher for a manifest that fits")
}

func describedName(hex string) string { return "described/" + hex + ".json" }

// SaveDescribed keeps what the plugin with this digest said.
func (d *Dir) SaveDescribed(digest string, said *Described) error {
	data, err := json.MarshalIndent(said, "", "  ")
	if err != nil {
		return fmt.Errorf("writing what a plugin said: %w", err)
	}
	if len(data) > maxDescribed {
		return fmt.Errorf("writing what a plugin said: larger than %d bytes", maxDescribed)
	}
	if err := d.files.WriteFile(describedName(strings.TrimPrefix(digest, "sha256:")), append(data, '\n'), fileMode); err != nil {
		return fmt.Errorf("writing what a plugin said: %w", err)
	}
	return nil
}

// LoadDescribed reads it; nil without an error means that nothing is kept.
func (d *Dir) LoadDescribed(digest string) (*Described, error) {
	name := describedName(strings.TrimPrefix(digest, "sha256:"))
	data, err := d.read(name, maxDescribed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var said Described
	if err := json.Unmarshal(data, &said); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(d.path, name), err)
	}
	return &said, nil
}

func (d *Dir) removeDescribed(hex string) error {
	if err := d.files.Remove(describedName(hex)); err != nil {
		return fmt.Errorf("removing what a plugin said: %w", err)
	}
	return nil
}
