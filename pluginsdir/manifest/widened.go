package manifest

import (
	"fmt"
	"slices"
	"strings"

	"mk8s.io/mk/sdk/plugin"
)

// Lines says for people what grants allow, one line each, in a stable order.
func Lines(g plugin.Grants) []string {
	var out []string
	add := func(verb string, values []string) {
		for _, v := range slices.Sorted(slices.Values(values)) {
			out = append(out, verb+": "+v)
		}
	}
	add("reads files", g.FilesRead)
	add("writes files", g.FilesWrite)
	add("controls services", g.Services)
	add("sets arguments", g.Arguments)
	add("asks for certificates", g.Certificates)
	var objects []string
	for _, o := range g.Objects {
		objects = append(objects, objectLines(o)...)
	}
	add("applies objects", objects)
	add("network", g.Network)
	if g.Members {
		out = append(out, "changes datastore members")
	}
	add("sets locks", g.Locks)
	add("changes trust", g.Trust)
	if g.HostExec {
		out = append(out, "runs programs on the host")
	}
	return out
}

// objectLines takes a grant apart into what is granted singly, so that grants
// that were only regrouped compare as the same.
func objectLines(o plugin.ObjectGrant) []string {
	var out []string
	for _, k := range o.Kinds {
		name := k
		if o.Group != "" {
			name += "." + o.Group
		}
		if len(o.Namespaces) == 0 {
			out = append(out, name+" (cluster-wide)")
		}
		for _, n := range o.Namespaces {
			out = append(out, fmt.Sprintf("%s in %s", name, n))
		}
	}
	return out
}

// Widened says what the new grants allow that the old ones did not, one line
// each. It errs towards asking: what only an old wildcard covered is told,
// unless the wildcard is a plain "*" or "**".
func Widened(old, new plugin.Grants) []string {
	had := Lines(old)
	var out []string
	for _, l := range Lines(new) {
		if !slices.Contains(had, l) && !covered(l, had) {
			out = append(out, l)
		}
	}
	return out
}

func covered(line string, had []string) bool {
	verb, _, ok := strings.Cut(line, ": ")
	if !ok || verb == "applies objects" {
		return false
	}
	return slices.ContainsFunc([]string{"**", "*"}, func(all string) bool {
		deep := strings.Contains(line, "/") && all == "*"
		return !deep && slices.Contains(had, verb+": "+all)
	})
}
