// Package multicall decides which program one binary is asked to be. It looks at the command line only, starts nothing
// and knows nothing of the programs; so a wrong name is told apart before anything costly is initialised.
package multicall

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Server is the program a binary is when nothing else was asked for.
const Server = "kubelite"

// Names lists the programs by the name under which they are called, the server first.
func Names() []string {
	return []string{Server, "etcd", "datastore", "drain", "kubectl", "version"}
}

// Choose returns the program and its arguments (without its name). A base name of argv[0] that is a program's (a link to
// the binary) decides alone; otherwise the first argument does; options, or nothing at all, mean the server. argv may be
// empty. The error names what is possible.
func Choose(argv []string) (name string, args []string, err error) {
	if len(argv) == 0 {
		return Server, nil, nil
	}
	args = argv[1:]
	if base := filepath.Base(argv[0]); base != Server && slices.Contains(Names(), base) {
		return base, args, nil
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return Server, args, nil
	}
	if !slices.Contains(Names(), args[0]) {
		return "", nil, fmt.Errorf("unknown program %q: want one of %s", args[0], strings.Join(Names(), ", "))
	}
	return args[0], args[1:], nil
}
