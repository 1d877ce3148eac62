package change

import (
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// Written says what the ChangeSets of an operation did on this node, from their
// journals, for people and for --output json. Objects of the cluster are not in
// them, and neither is what an open ChangeSet has yet to decide.
func Written(root *node.Root, operation int) ([]Line, error) {
	all, err := (&Engine{Root: root}).histories()
	if err != nil {
		return nil, err
	}
	var lines []Line
	for _, h := range all {
		if h.id.Operation != operation || h.last == recordUndone {
			continue
		}
		for _, en := range h.entries {
			if en.Before != en.After || en.Before == "" {
				lines = append(lines, en.line())
			}
		}
	}
	return lines, nil
}

func (en entry) line() Line {
	switch {
	case en.Kind == kindService:
		return Line{Verb: string(en.Action), Target: en.Service}
	case en.Kind == kindMove:
		return Line{Verb: "move", Target: en.Path + " to " + en.To, Paths: []string{en.Path, en.To}}
	case en.Kind == kindCerts:
		return Line{Verb: "replace", Target: "certs", Paths: []string{en.name()}}
	case en.Kind == kindFolder || en.Before == changeset.Absent:
		return Line{Verb: "create", Target: en.Path, Paths: []string{en.Path}}
	}
	return Line{Verb: en.Kind, Target: en.Path, Paths: []string{en.Path}}
}
