package sdk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"sigs.k8s.io/yaml"

	"mk8s.io/mk/sdk/plugin"
)

// byHand answers people who run a plugin themselves.
func byHand(ctx context.Context, p plugin.Plugin, about About, args []string, stdout, stderr io.Writer) int {
	d, err := describe(ctx, p)
	if err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 1
	}
	if len(args) == 1 && args[0] == "--manifest" {
		m, err := manifestOf(d, about)
		if err != nil {
			fmt.Fprintln(stderr, "error:", err)
			return 1
		}
		if _, err := stdout.Write(m); err != nil {
			return 1
		}
		return 0
	}
	help(stdout, d, about)
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
		return 0
	}
	return 2
}

func help(w io.Writer, d plugin.Description, about About) {
	fmt.Fprintf(w, "This program is the plugin %s %s for mk. It is started by mk, not by hand.\n", d.Identity, d.Identity.Version)
	if about.Description != "" {
		fmt.Fprintf(w, "%s\n", about.Description)
	}
	if about.Homepage != "" {
		fmt.Fprintf(w, "%s\n", about.Homepage)
	}
	fmt.Fprintf(w, `
To install it, put it into a folder as bin/%[1]s, write its manifest, and hand
the folder to mk:

    bin/%[1]s --manifest > plugin.yaml
    mk plugin install .
`, d.Identity.Name)
}

// manifest is plugin.yaml, in the order in which people read it.
type manifest struct {
	APIVersion   string                   `json:"apiVersion"`
	Kind         string                   `json:"kind"`
	Identity     identity                 `json:"identity"`
	Contracts    []string                 `json:"contracts"`
	Capabilities []string                 `json:"capabilities,omitempty"`
	Requires     requires                 `json:"requires,omitzero"`
	Platforms    []platform               `json:"platforms"`
	Grants       plugin.Grants            `json:"grants"`
	Settings     json.RawMessage          `json:"settings,omitempty"`
	Steps        []plugin.StepDescription `json:"steps,omitempty"`
	Exportable   bool                     `json:"exportable,omitempty"`
	Routes       []plugin.Route           `json:"routes,omitempty"`
}

type identity struct {
	plugin.Identity
	Description string `json:"description,omitempty"`
	Homepage    string `json:"homepage,omitempty"`
}

type requires struct {
	MK string `json:"mk,omitempty"`
}

type platform struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Bin    string `json:"bin"`
	SHA256 string `json:"sha256"`
}

// manifestOf makes plugin.yaml of a description, for the program that runs.
func manifestOf(d plugin.Description, about About) ([]byte, error) {
	sum, err := ownDigest()
	if err != nil {
		return nil, err
	}
	b, err := yaml.Marshal(manifest{
		APIVersion: "mk8s.io/v1", Kind: "Plugin",
		Identity:  identity{Identity: d.Identity, Description: about.Description, Homepage: about.Homepage},
		Contracts: d.Contracts, Capabilities: d.Capabilities, Requires: requires{MK: about.RequiresMK},
		Platforms: []platform{{OS: runtime.GOOS, Arch: runtime.GOARCH, Bin: "bin/" + d.Identity.Name, SHA256: sum}},
		Grants:    d.Grants, Settings: d.Settings, Steps: d.Steps, Exportable: d.Exportable, Routes: d.Routes,
	})
	if err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	return b, nil
}

func ownDigest() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program: %w", err)
	}
	f, err := os.Open(filepath.Clean(self))
	if err != nil {
		return "", fmt.Errorf("reading this program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading this program: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
