// Command units writes the systemd units of a control-plane and of a worker
// node into a folder, for the archive: who installs mk reads there what will
// run. They are those that mk start makes for a node named "node" at
// 192.0.2.1 in the default root folder; mk start makes its own.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service/systemd"
	"mk8s.io/mk/core/version"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: units DISTRIBUTION FOLDER")
		os.Exit(2)
	}
	for _, role := range []node.Role{node.ControlPlane, node.Worker} {
		if err := write(os.Args[1], filepath.Join(os.Args[2], string(role)), role); err != nil {
			fmt.Fprintln(os.Stderr, "units:", err)
			os.Exit(1)
		}
	}
}

func write(distribution, folder string, role node.Role) error {
	mk, err := filepath.Abs(filepath.Join(distribution, "bin/mk"))
	if err != nil {
		return err
	}
	programs, err := node.FindPrograms(mk)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mk-units")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder of our own in the temporary one
	root, err := node.Create(filepath.Join(dir, "mk"), node.Options{})
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // nothing is kept in it
	record := node.NewRecord("node", time.Unix(0, 0))
	record.Role, record.Address = role, "192.0.2.1"
	n := defaults.Node{Root: root, Programs: programs, Record: record}
	for service, options := range n.Arguments() {
		var text strings.Builder
		for _, o := range options {
			if o.Bare {
				fmt.Fprintf(&text, "--%s\n", o.Name)
			} else {
				fmt.Fprintf(&text, "--%s=%s\n", o.Name, o.Value)
			}
		}
		if err := root.WriteFile("args/"+service, []byte(text.String()), root.Public()); err != nil {
			return err
		}
	}
	definitions, err := n.Definitions(mk)
	if err != nil {
		return err
	}
	control, err := systemd.New(systemd.Options{LogDir: root.Path("var/log")})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	at, err := node.Nowhere(node.DefaultDir, node.Options{})
	if err != nil {
		return err
	}
	installed := strings.NewReplacer(root.RunDir(), at.RunDir(), root.Dir(), node.DefaultDir, programs.Dir(), "/usr/local/lib/mk/"+version.Version)
	for _, d := range definitions {
		text := installed.Replace(control.Text(d, 0))
		if err := node.WriteFile(filepath.Join(folder, control.Unit(d.Name)), []byte(text), node.Perm{Mode: 0o644, UID: -1, GID: -1}); err != nil {
			return err
		}
	}
	return nil
}
