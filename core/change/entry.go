package change

import (
	"io/fs"
	"path"
	"slices"
	"strconv"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// Kinds of entries: what a ChangeSet comes down to.
const (
	kindReplace = "replace" // staged file becomes Path
	kindRemove  = "remove"  // Path goes, kept as Old
	kindMove    = "move"    // Path becomes To
	kindFolder  = "folder"  // Path is made
	kindCerts   = "certs"   // generation Number becomes the current one
	kindService = "service" // Action on Service
)

// entry is one thing to do on this node. It says how to do it again and how
// to take it back, whatever was done of it before a crash.
type entry struct {
	Kind   string      `json:"kind"`
	Path   string      `json:"path,omitempty"`
	To     string      `json:"to,omitempty"`
	Staged string      `json:"staged,omitempty"`
	Old    string      `json:"old,omitempty"`
	Mode   fs.FileMode `json:"mode,omitempty"`
	Before string      `json:"before,omitempty"` // digest, or absent
	After  string      `json:"after,omitempty"`  // digest, or absent

	Number   int `json:"number,omitempty"` // generation of certs
	Previous int `json:"previous,omitempty"`

	Service string                  `json:"service,omitempty"`
	Action  changeset.ServiceAction `json:"action,omitempty"`
	Ran     bool                    `json:"ran,omitempty"` // it ran before
}

// content is what stage writes for an entry; it is never in the journal.
type content struct {
	data []byte
	perm node.Perm
}

// plan is what a ChangeSet comes down to on this node.
type plan struct {
	Entries []entry
	content map[int]content // by index of the entry
	certs   []File          // of the new generation; nil content removes
}

// beside names a temporary file in the folder of name. The prefix is that of
// temporary files everywhere in the node's folder.
func beside(name, what string, id ID, n int) string {
	return path.Join(path.Dir(name), ".mk-"+what+"-"+id.String()+"-"+strconv.Itoa(n))
}

func sortInts(s []int) { slices.Sort(s) }
