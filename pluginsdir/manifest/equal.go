package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"mk8s.io/mk/sdk/plugin"
)

// Equal compares the manifest with what the program says of itself and answers
// one line for each difference; the order of lists does not matter.
func (m *Manifest) Equal(d plugin.Description) []string {
	var out []string
	differ := func(what string, manifest, program any) {
		out = append(out, fmt.Sprintf("%s: the manifest says %v, the program %v", what, shown(manifest), shown(program)))
	}
	own := m.Identity.Identity
	for _, f := range []struct{ what, manifest, program string }{
		{"kind", own.Kind, d.Identity.Kind},
		{"name", own.Name, d.Identity.Name},
		{"version", own.Version, d.Identity.Version},
		{"publisher", own.Publisher, d.Identity.Publisher},
	} {
		if f.manifest != f.program {
			differ(f.what, f.manifest, f.program)
		}
	}
	for _, f := range []struct {
		what              string
		manifest, program []string
	}{
		{"contracts", m.Contracts, d.Contracts},
		{"capabilities", m.Capabilities, d.Capabilities},
		{"grants", Lines(m.Grants), Lines(d.Grants)},
		{"steps", stepLines(m.Steps), stepLines(d.Steps)},
		{"routes", routeLines(m.Routes), routeLines(d.Routes)},
	} {
		if a, b := missing(f.manifest, f.program), missing(f.program, f.manifest); len(a)+len(b) > 0 {
			differ(f.what, a, b)
		}
	}
	if m.Exportable != d.Exportable {
		differ("exportable", m.Exportable, d.Exportable)
	}
	if !sameJSON(m.Settings, d.Settings) {
		out = append(out, "settings: the manifest's schema is not the program's")
	}
	return out
}

// shown keeps a message short, whatever a program answered.
func shown(v any) string {
	s := fmt.Sprintf("%q", v)
	if l, ok := v.([]string); ok && len(l) == 0 {
		s = "nothing more"
	}
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

func stepLines(steps []plugin.StepDescription) []string {
	out := make([]string, len(steps))
	for i, s := range steps {
		out[i] = fmt.Sprintf("%s %s revocable=%t", s.Question, s.Name, s.Revocable)
	}
	return out
}

func routeLines(routes []plugin.Route) []string {
	out := make([]string, len(routes))
	for i, r := range routes {
		h := slices.Sorted(slices.Values(r.Headers))
		out[i] = fmt.Sprintf("%s %s %v reserved=%t", r.Method, r.Path, h, r.Reserved)
	}
	return out
}

// missing are the elements of a that b lacks.
func missing(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

// sameJSON compares values, not spelling. Nothing, null and {} are the same:
// a plugin without settings.
func sameJSON(a, b []byte) bool {
	va, oka := jsonValue(a)
	vb, okb := jsonValue(b)
	return oka && okb && reflect.DeepEqual(va, vb)
}

func jsonValue(data []byte) (any, bool) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, true
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, false
	}
	if m, ok := v.(map[string]any); ok && len(m) == 0 {
		return nil, true
	}
	return v, true
}
