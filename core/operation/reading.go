package operation

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/sdk/plugin"
)

// maxLinks is how many links may lead to a file that is read for a plugin.
const maxLinks = 16

// readFor reads a file for a plugin whose grants name it. No link leads into
// what is hidden from plugins: a plugin writes its own state folder, and could
// have the core, which reads as root, follow a link from there to anything.
func (n *Node) readFor(name string) ([]byte, error) {
	at, rest := "", name
	for links := 0; rest != ""; {
		first, more, _ := strings.Cut(rest, "/")
		at, rest = path.Join(at, first), more
		if change.Hidden(at) || links > maxLinks {
			return nil, plugin.Errorf(plugin.NotPossible, "no plugin may read %.200s: it is, or leads to, what is the core's alone", name)
		}
		info, err := n.Root.Lstat(at)
		if err != nil {
			return nil, err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			continue
		}
		target, err := n.Root.Readlink(at)
		if err != nil {
			return nil, err
		}
		if path.IsAbs(target) {
			return nil, fmt.Errorf("%s leads out of the root folder", name)
		}
		// Where a link stands no other has led by now, so ".." means what it says.
		at, rest, links = "", path.Join(path.Dir(at), target, rest), links+1
	}
	return n.Root.ReadFile(name)
}
