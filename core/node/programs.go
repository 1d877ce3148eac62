package node

import (
	"fmt"
	"path/filepath"
)

// Programs is the folder of a distribution: bin/ (and bin/cni/), plugins/,
// images/, units/ and completions/. It belongs to an mk, not to a node.
type Programs struct{ dir string }

// FindPrograms finds the distribution that the mk executable lies in, links
// followed: its real path ends in bin/<name>.
func FindPrograms(executable string) (Programs, error) {
	real, err := filepath.EvalSymlinks(executable)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return Programs{}, fmt.Errorf("find the programs of %s: %w", executable, err)
	}
	bin := filepath.Dir(real)
	if filepath.Base(bin) != "bin" {
		return Programs{}, fmt.Errorf("find the programs of %s: it does not lie in a folder named bin", real)
	}
	return Programs{dir: filepath.Dir(bin)}, nil
}

// Dir is the distribution's folder.
func (p Programs) Dir() string { return p.dir }

// Bin is the path of a program.
func (p Programs) Bin(name string) string { return filepath.Join(p.dir, "bin", name) }

// CNI is the folder of the CNI plugins.
func (p Programs) CNI() string { return filepath.Join(p.dir, "bin", "cni") }

// Plugins is the folder of the plugins that ship with mk.
func (p Programs) Plugins() string { return filepath.Join(p.dir, "plugins") }

// Images is the folder of the images to side-load.
func (p Programs) Images() string { return filepath.Join(p.dir, "images") }
