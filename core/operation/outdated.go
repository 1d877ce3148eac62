package operation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"mk8s.io/mk/core/node"
)

// OutdatedError says that the cluster goes on without this node: it was removed
// while it could not hear of it, or the cluster was recovered from the data of
// another. It must not serve any more.
type OutdatedError struct {
	Removed bool      `json:"removed,omitempty"` // else the cluster was recovered
	By      string    `json:"by,omitempty"`      // the node that said so
	At      time.Time `json:"at"`                // of the recovery, or when it was heard
}

// Error says which.
func (e *OutdatedError) Error() string {
	if e.Removed {
		return "this node is no member of its cluster any more: it was removed"
	}
	return fmt.Sprintf("this node's cluster was recovered without it, on %s", e.By)
}

// Why says when and by whom.
func (e *OutdatedError) Why() string {
	if e.Removed {
		return fmt.Sprintf("%s has no record of it (heard %s)", e.By, e.At.Format("2006-01-02 15:04 MST"))
	}
	return fmt.Sprintf("recovered %s; what this node holds is older, and it serves nothing", e.At.Format("2006-01-02 15:04 MST"))
}

// outdatedFile is a file of its own: it is written while others hold locks.
const outdatedFile = "var/outdated.json"

const maxOutdated = 64 << 10

// Outdated is an *OutdatedError where the cluster goes on without this node.
func (n *Node) Outdated() error {
	data, err := n.Root.ReadFile(outdatedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	e := &OutdatedError{}
	if len(data) > maxOutdated {
		return fmt.Errorf("%s is larger than %d bytes", n.Root.Path(outdatedFile), maxOutdated)
	}
	if err := json.Unmarshal(data, e); err != nil {
		return fmt.Errorf("%s: %w", n.Root.Path(outdatedFile), err)
	}
	return e
}

// SetOutdated notes that the cluster goes on without this node.
func (n *Node) SetOutdated(e *OutdatedError) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("note that the node is outdated: %w", err)
	}
	return n.Root.WriteFile(outdatedFile, append(data, '\n'), node.Perm{Mode: 0o644, UID: -1, GID: -1})
}
