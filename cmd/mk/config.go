package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"sigs.k8s.io/yaml"

	"mk8s.io/mk/core/kubeconfig"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
)

func (s *session) config() *cli.Command {
	return &cli.Command{
		Name: "config", Usage: "print a kubeconfig, or merge it into ~/.kube/config",
		Description: "mk config > ~/.kube/config\nmk config --merge", UsageText: exitsRead,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "use-loopback", Aliases: []string{"l"}, Usage: "keep 127.0.0.1 as the server"},
			&cli.StringFlag{Name: "user", Usage: "whose: admin, controller, scheduler, kubelet, proxy", Value: "admin"},
			&cli.BoolFlag{Name: "merge", Usage: "merge into ~/.kube/config, after a backup"},
		},
		Action: func(c *cli.Context) error {
			return s.open("config", func(n *operation.Node) error { return s.doConfig(c, n) })
		},
	}
}

func (s *session) doConfig(c *cli.Context, n *operation.Node) error {
	file, err := kubeconfig.ForUser(c.String("user"))
	if err != nil {
		return usage("%s", err.Error())
	}
	path := n.Root.Credentials(file.Name)
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	config, err := kubeconfig.Parse(path, data)
	if err != nil {
		return &node.FileError{Err: err}
	}
	if !c.Bool("use-loopback") {
		addr, err := netip.ParseAddr(n.Record.Address)
		if err != nil {
			return fmt.Errorf("the node's address %q: %w", n.Record.Address, err)
		}
		config = kubeconfig.Rewrite(config, addr)
	}
	out, err := config.Marshal()
	if err != nil {
		return err
	}
	if c.Bool("merge") {
		return s.mergeConfig(config)
	}
	return s.showConfig(out)
}

// showConfig prints a kubeconfig as it is, or as the document that was asked
// for: kubectl reads either.
func (s *session) showConfig(text []byte) error {
	if !s.documents() {
		_, err := s.out.Write(text)
		return err
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	return s.document(doc)
}

// mergeConfig merges into the user's own kubeconfig. What was there is kept
// beside it.
func (s *session) mergeConfig(ours *kubeconfig.Config) error {
	home, err := os.UserHomeDir()
	if err != nil {
		return fmt.Errorf("find the home folder: %w", err)
	}
	path := filepath.Join(home, ".kube", "config")
	existing, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if ours, err = kubeconfig.Unique(ours, "mk"); err != nil {
		return err
	}
	merged, changes, err := kubeconfig.Merge(path, existing, ours)
	if err != nil {
		return err
	}
	if s.global.dryRun {
		return s.show(changes, func(w io.Writer) error {
			for _, change := range changes {
				fmt.Fprintf(w, "%v\n", change)
			}
			return nil
		})
	}
	if bytes.Equal(merged, existing) {
		s.note("%s has all of it already", path)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make %s: %w", filepath.Dir(path), err)
	}
	if len(existing) > 0 {
		backup := path + "." + time.Now().UTC().Format("20060102T150405.000000000Z") // none replaces another
		if err := replaceFile(backup, existing); err != nil {
			return err
		}
		s.note("kept the old file as %s", backup)
	}
	return replaceFile(path, merged)
}

// replaceFile writes a file of the user's as a whole.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".mk-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
