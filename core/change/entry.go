package change

import (
	"io/fs"
	"strings"

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

// folderDigest stands for a folder's digest, which nobody needs: it may hold
// gigabytes.
const folderDigest = "folder"

// entry is one thing to do on this node. It says how to do it again and how
// to take it back, whatever was done of it before a crash.
type entry struct {
	Kind   string      `json:"kind"`
	Path   string      `json:"path,omitempty"`
	To     string      `json:"to,omitempty"`
	Staged string      `json:"staged,omitempty"`
	Old    string      `json:"old,omitempty"`
	Mode   fs.FileMode `json:"mode,omitempty"`
	Before string      `json:"before,omitempty"` // digest, folder or absent
	After  string      `json:"after,omitempty"`  // digest, or absent
	// Inode is what is moved: it tells whether it was, even where something
	// else has come to be at Path since.
	Inode uint64 `json:"inode,omitempty"`

	Number   int `json:"number,omitempty"` // generation of certs
	Previous int `json:"previous,omitempty"`

	Service string                  `json:"service,omitempty"`
	Action  changeset.ServiceAction `json:"action,omitempty"`
	Ran     bool                    `json:"ran,omitempty"` // it ran before

	// What stage writes; never in the journal.
	data []byte
	perm node.Perm
}

// name is what an entry is about, for messages.
func (en entry) name() string {
	switch {
	case en.Kind == kindCerts:
		return certsFolder(en.Number)
	case en.Service != "":
		return en.Service
	}
	return en.Path
}

// plan is what a ChangeSet comes down to on this node.
type plan struct {
	entries []entry
	certs   []certsFile // what the new generation differs in
}

// certsFile is a file or folder of the next generation of certs, relative to
// it.
type certsFile struct {
	File
	folder bool
}

// stagedNames are the names that stage makes.
func stagedNames(entries []entry) []string {
	var names []string
	for _, en := range entries {
		switch en.Kind {
		case kindReplace:
			names = append(names, en.Staged)
		case kindCerts:
			names = append(names, certsFolder(en.Number))
		}
	}
	return names
}

// within reports whether name is dir or something below it.
func within(name, dir string) bool {
	return name == dir || (strings.HasPrefix(name, dir) && name[len(dir)] == '/')
}
