package change

import (
	"fmt"

	"mk8s.io/mk/sdk/changeset"
)

// Line says what one operation would do, for people and for --output json.
type Line struct {
	Verb   string `json:"verb"`
	Target string `json:"target"`
	// Effect compares with what is there: create, replace, remove, nothing;
	// empty where only doing it tells.
	Effect string `json:"effect,omitempty"`
	Why    string `json:"why,omitempty"`
}

// Preview says what applying a ChangeSet would do. It changes nothing.
func (e *Engine) Preview(cs changeset.ChangeSet) ([]Line, error) {
	lines := make([]Line, 0, len(cs.Operations))
	for _, op := range cs.Operations {
		l := Line{Verb: op.Verb(), Target: op.Target(), Why: op.Why}
		effect, err := e.effect(op.Action)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", l.Verb, l.Target, err)
		}
		l.Effect = effect
		lines = append(lines, l)
	}
	return lines, nil
}

func (e *Engine) effect(a changeset.Action) (string, error) {
	path := target(a)
	if path == "" {
		return "", nil
	}
	now, err := e.Root.Digest(path)
	if err != nil {
		return "", err
	}
	switch a := a.(type) {
	case *changeset.WriteFile:
		switch now {
		case changeset.Absent:
			return "create", nil
		case changeset.DigestOf(a.Content):
			return "nothing", nil
		}
		return "replace", nil
	case *changeset.MakeFolder:
		if now == changeset.Absent {
			return "create", nil
		}
		return "nothing", nil
	case *changeset.RemovePath, *changeset.MovePath:
		if now == changeset.Absent {
			return "nothing", nil
		}
		return "remove", nil
	}
	return "", nil
}
