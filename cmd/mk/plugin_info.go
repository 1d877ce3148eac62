package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"mk8s.io/mk/pluginsdir"
)

// showPlugin says for people what is known of a plugin: whose it is, what it
// may do, and what was done with it.
func showPlugin(w io.Writer, d *pluginsdir.Details) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	row := func(name string, values ...string) {
		for i, v := range values {
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(t, "%s\t%s\n", name, v)
		}
	}
	some := func(name, text string) {
		if text != "" {
			row(name, text)
		}
	}
	row("plugin", d.Kind+"/"+d.Name+" "+d.Version)
	some("", d.Content.Identity.Description)
	some("publisher", d.Publisher)
	some("homepage", d.Content.Identity.Homepage)
	row("active", activeText(d.Listed))
	some("other versions", strings.Join(d.Others, ", "))
	row("digest", d.Digest)
	some("source", d.Source)
	row("runs as", fmt.Sprintf("user %d", d.User))
	row("contracts", strings.Join(d.Contracts, ", "))
	some("capabilities", strings.Join(d.Content.Capabilities, ", "))
	row("class", string(d.Class))
	row("why", d.Reasons...)
	if len(d.May) == 0 {
		row("may", "answer questions, and nothing else")
	}
	row("may", d.May...)
	row("settings", settingLines(d.Content.Settings)...)
	var history []string
	for _, e := range d.History {
		text := fmt.Sprintf("%s  %s %s by %s: %s %s", e.At.Local().Format(time.DateTime), e.Action, e.Version, e.By, e.State, e.Why)
		history = append(history, strings.TrimSpace(text))
	}
	row("history", history...)
	return t.Flush()
}

// settingLines are the settings that a plugin's schema names. What the schema
// says beyond that is in --output json.
func settingLines(schema json.RawMessage) []string {
	var said struct {
		Properties map[string]struct {
			Type        any    `json:"type"`
			Description string `json:"description"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(schema, &said); err != nil {
		return nil // a manifest with such a schema is not installed
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(said.Properties)) {
		p := said.Properties[name]
		lines = append(lines, strings.TrimSuffix(fmt.Sprintf("%s (%v): %s", name, p.Type, p.Description), ": "))
	}
	return lines
}
