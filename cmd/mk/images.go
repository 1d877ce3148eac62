package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) images() *cli.Command {
	return &cli.Command{
		Name: "images", Aliases: []string{"image"}, Usage: "list and import container images",
		Description: "sudo mk images import app.tar", UsageText: exitsUsual,
		Action: s.listImages,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the images on this node", Description: "sudo mk images list", UsageText: exitsUsual, Action: s.listImages},
			{Name: "import", Usage: "import an OCI or docker archive; - reads standard input", ArgsUsage: "FILE", Description: "sudo mk images import app.tar\nsudo mk images import app.tar --all-nodes", UsageText: exitsFar, Action: s.importImages,
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "all-nodes", Usage: "on every node: the archive is sent to each"},
					&cli.StringFlag{Name: "node", Usage: "on another `NODE`"},
				}},
		},
	}
}

func (s *session) listImages(c *cli.Context) error {
	var names bytes.Buffer
	if err := s.containerd(c, "images list", &names, "images", "list", "--quiet"); err != nil {
		return err
	}
	type image struct {
		Name string `json:"name"`
	}
	out := []image{}
	for _, name := range splitLines(names.String()) {
		out = append(out, image{name})
	}
	return s.show(out, func(w io.Writer) error {
		_, err := names.WriteTo(w)
		return err
	})
}

func (s *session) importImages(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk images import: which file?")
	}
	file := c.Args().First()
	if file != "-" {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			return usage("%s is not a file", file)
		}
	}
	where, err := whereOf(c)
	if err != nil {
		return err
	}
	if where.Far() {
		return s.sendImages(c, where, file)
	}
	return s.containerd(c, "images import", s.said(), "images", "import", "--local", file)
}

// farImport is how long an import on other nodes may take where --timeout does
// not say.
const farImport = 30 * time.Minute

// sendImages has other nodes import an archive.
func (s *session) sendImages(c *cli.Context, w operation.Where, file string) error {
	if file == "-" {
		return usage("what comes from standard input comes once: images for other nodes are read from a file")
	}
	if err := s.root("images import"); err != nil {
		return err
	}
	return s.open("images", func(n *operation.Node) error {
		words := "on every node"
		if w.Node != "" {
			words = "on " + w.Node
		}
		what := "import " + file + " " + words
		if s.global.dryRun {
			return s.showPlan(&operation.Plan{Then: []string{what}})
		}
		ctx, cancel := context.WithTimeout(c.Context, cmp.Or(s.global.timeout, farImport))
		defer cancel()
		progress := s.newProgress()
		n.Progress = progress
		progress.Begin(what)
		began := time.Now()
		all, err := n.SendImages(ctx, w, file)
		progress.End(what, time.Since(began), cmp.Or(err, notDone(all)))
		if err := errors.Join(err, c.Context.Err()); err != nil {
			return err
		}
		return s.showOutcomes(all, "the other nodes have the images; import them there again")
	})
}

// containerd runs ctr as a child, so that what it says is shown as mk's.
func (s *session) containerd(c *cli.Context, verb string, out io.Writer, words ...string) error {
	if verb != "images list" { // the admin group asks containerd, too
		if err := s.root(verb); err != nil {
			return err
		}
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	return s.open("images", func(n *operation.Node) error {
		if s.global.dryRun && verb == "images import" {
			return s.showPlan(&operation.Plan{Then: []string{"import " + words[len(words)-1]}})
		}
		argv := append([]string{"--address", n.Defaults().ContainerdSocket(), "--namespace", "k8s.io"}, words...)
		cmd := exec.CommandContext(ctx, n.Programs.Bin("ctr"), argv...)
		cmd.Stdin, cmd.Stdout = s.in, out
		var said tail
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("containerd: %w", ctx.Err())
			}
			return fmt.Errorf("containerd: %s", said.last(err))
		}
		return nil
	})
}

// said is where a child says what it does: no result where one is a document.
func (s *session) said() io.Writer {
	if s.documents() {
		return s.err
	}
	return s.out
}

// tail keeps the end of what a child said.
type tail struct{ data []byte }

// Write takes anything.
func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	t.data = t.data[max(0, len(t.data)-4096):]
	return len(p), nil
}

func (t *tail) last(err error) string {
	lines := splitLines(string(t.data))
	if len(lines) == 0 {
		return err.Error()
	}
	return lines[len(lines)-1]
}
