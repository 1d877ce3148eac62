// Package addons is the contract of plugins that offer addons.
package addons

import (
	"context"

	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// Plugin is an addons plugin. Many may be active.
type Plugin interface {
	plugin.Plugin
	// List names the addons. It changes nothing and depends on nothing but the
	// plugin's version and settings: the core keeps the answer.
	List(ctx context.Context) ([]Addon, error)
	// Plan answers what enabling or disabling changes.
	Plan(ctx context.Context, r PlanRequest) (plugin.Answer, error)
	// Probe names the objects which tell that an addon is enabled and healthy.
	// Like List, it is asked once and kept.
	Probe(ctx context.Context, addon string) ([]changeset.ObjectReference, error)
}

// Addon is one addon.
type Addon struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Version     string   `json:"version"`
	Requires    []string `json:"requires,omitempty"`
	Images      []string `json:"images,omitempty"`
	Arguments   []string `json:"arguments,omitempty"` // one line each: "forward: upstream servers"
}

// PlanRequest says what is wanted.
type PlanRequest struct {
	Call      plugin.Call
	Node      plugin.Node
	Addon     string
	Enable    bool // false disables
	Arguments []string
	Values    map[string]string
	Enabled   []string // addons enabled just now
}
