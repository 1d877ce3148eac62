// Package oneprocess makes the options of several Kubernetes components fit for one process.
//
// Feature gates and the logging configuration are the process's, not the component's. Left as written, a --v in one
// component's file alone would be refused as a second, different logging configuration, and a gate set for the kubelet
// would reach the API server at an accidental moment. Unify gives every component the same set. It knows option names
// only; whether a value is valid is the component's to say.
package oneprocess

import (
	"maps"
	"slices"
	"strings"
)

const gates = "--feature-gates"

// logging tells the options of component-base's logging configuration by their names.
func logging(name string) bool {
	switch name {
	case "--v", "--vmodule", "--logging-format", "--log-flush-frequency":
		return true
	}
	return strings.HasPrefix(name, "--log-json-") || strings.HasPrefix(name, "--log-text-")
}

// Unify returns the argument lists in the same order, each with the feature gates and logging options of all of them in
// place of its own. Where two lists disagree the later list wins, as a later option wins within one. Arguments are of the
// form --name=value or --name; the prefix kube: of a gate, which only some components know, is dropped.
func Unify(lists ...[]string) [][]string {
	gateValues, logOptions := map[string]string{}, map[string]string{}
	own := make([][]string, len(lists))
	for i, list := range lists {
		for _, arg := range list {
			name, value, _ := strings.Cut(arg, "=")
			switch name = strings.ReplaceAll(name, "_", "-"); {
			case name == gates:
				collect(gateValues, value)
			case logging(name):
				logOptions[name] = name + strings.TrimPrefix(arg, arg[:len(name)])
			default:
				own[i] = append(own[i], arg)
			}
		}
	}
	shared := sorted(logOptions)
	if len(gateValues) > 0 {
		shared = append(shared, gates+"="+strings.Join(sorted(gateValues), ","))
	}
	for i := range own {
		own[i] = append(own[i], shared...)
	}
	return own
}

func collect(values map[string]string, list string) {
	for pair := range strings.SplitSeq(list, ",") {
		pair = strings.TrimPrefix(strings.TrimSpace(pair), "kube:")
		if pair == "" {
			continue
		}
		name, _, _ := strings.Cut(pair, "=")
		values[name] = pair
	}
}

func sorted(options map[string]string) []string {
	values := make([]string, 0, len(options))
	for _, name := range slices.Sorted(maps.Keys(options)) {
		values = append(values, options[name])
	}
	return values
}
