package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/node"
)

// wrong is a command line that must be refused, and what its next step says.
type wrong struct {
	words []string
	next  string
}

// wrongLines are the wrong command lines of one verb: a flag and a word that
// are misspelled, a flag without its value, flags with values that they cannot
// have, arguments too many and too few.
func wrongLines(path string, c *cli.Command) []wrong {
	own := strings.Fields(path)[1:]
	least, most := arity(c.ArgsUsage)
	args := slices.Repeat([]string{"x"}, least)
	line := func(more ...string) []string { return slices.Concat(own, more, args) }
	out := []wrong{
		{line("--ouptut=json"), path + " --output"},
		{line("--root"), ""},
		{line("--timeout=soon"), ""},
		{line("--timeout=0"), ""},
		{line("--color=sometimes"), ""},
		{line("--progress=slow"), ""},
		{line("--output=xml"), ""},
		{line("--dry-run=perhaps"), ""},
	}
	if least == 0 { // the flag takes no argument for its value
		out[1].words = append(own, "--root")
	} else {
		out[1].words = append(slices.Concat(own, args), "--root")
	}
	globals := flagNames(globalFlags(newSession(nil, strings.NewReader(""), io.Discard, io.Discard, os.Getenv)))
	for _, f := range c.Flags {
		name := f.Names()[0]
		if slices.Contains(globals, name) || !visible(f) {
			continue
		}
		if len(name) > 3 {
			out = append(out, wrong{line("--" + swapped(name)), path + " --" + name})
		}
		switch f.(type) {
		case *cli.BoolFlag:
			out = append(out, wrong{line("--" + name + "=perhaps"), ""})
		case *cli.IntFlag, *cli.UintFlag, *cli.DurationFlag:
			out = append(out, wrong{line("--" + name + "=many"), ""})
		}
	}
	if len(c.Subcommands) > 0 {
		word := c.Subcommands[0].Name
		return append(out, wrong{append(own, swapped(word)), path + " " + word})
	}
	if most >= 0 {
		out = append(out, wrong{append(own, slices.Repeat([]string{"x"}, most+1)...), path + " --help"})
	}
	if least > 0 {
		out = append(out, wrong{append(own, args[1:]...), ""})
	}
	return out
}

func visible(f cli.Flag) bool {
	v, ok := f.(cli.VisibleFlag)
	return !ok || v.IsVisible()
}

// swapped is a word with its last two different letters exchanged.
func swapped(word string) string {
	b := []byte(word)
	for i := len(b) - 1; i > 0; i-- {
		if b[i] != b[i-1] {
			b[i], b[i-1] = b[i-1], b[i]
			break
		}
	}
	return string(b)
}

// TestWrongLines: every verb refuses what is wrong with its words before it
// does anything: exit code 2, the nearest word, one document where one was
// asked for, and nothing changed.
func TestWrongLines(t *testing.T) {
	root := aNode(t)
	before := treeOf(t, root)
	everyVerb(t, func(path string, c *cli.Command, _ *cli.App) {
		if c.SkipFlagParsing {
			return
		}
		lines := wrongLines(path, c)
		for _, w := range lines {
			checkWrong(t, root, "pretty", w)
		}
		// What is said is the same: the first and the last as documents, too.
		checkWrong(t, root, "json", lines[0])
		checkWrong(t, root, "json", lines[len(lines)-1])
	})
	if after := treeOf(t, root); after != before {
		t.Errorf("something was changed:\n%s\nbefore\n%s", after, before)
	}
}

func checkWrong(t *testing.T, root, output string, w wrong) {
	t.Helper()
	words := slices.Concat([]string{"mk"}, w.words)
	var out, errs bytes.Buffer
	s := newSession(words, strings.NewReader(""), &out, &errs, func(string) string { return "" })
	s.global.root = root
	app := newApp(s)
	if output == "json" {
		words = slices.Insert(words, 1, "--output=json", "--root="+root)
	} else {
		words = slices.Insert(words, 1, "--root="+root)
	}
	words = arrange(app, words)
	s.global.output = outputOf(app, words, "pretty")
	exit := s.finish(t.Context(), app.RunContext(t.Context(), words))
	said := fmt.Sprintf("%q: exit %d\n%s%s", w.words, exit, out.String(), errs.String())
	if exit != exitUsage {
		t.Errorf("%s", said)
		return
	}
	if output == "pretty" {
		if out.Len() > 0 || !strings.Contains(errs.String(), "\nstate nothing was changed\n") || !strings.Contains(errs.String(), "\nnext  "+w.next) && w.next != "" {
			t.Errorf("%s\nwants next %s", said, w.next)
		}
		return
	}
	var doc struct{ Error problem }
	dec := json.NewDecoder(&out)
	if err := dec.Decode(&doc); err != nil || doc.Error.Reason != "USAGE" || doc.Error.Changed || errs.Len() > 0 {
		t.Errorf("%s: %v", said, err)
	}
	if err := dec.Decode(&doc); !errors.Is(err, io.EOF) {
		t.Errorf("%s: more than one document", said)
	}
	if w.next != "" && (len(doc.Error.Next) == 0 || doc.Error.Next[0] != w.next) {
		t.Errorf("%s\nwants next %s", said, w.next)
	}
}

// aNode is the folder of a node of which nothing runs.
func aNode(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	root, err := node.Create(dir, node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec := node.NewRecord("a", time.Now())
	rec.Address, rec.ClusterID, rec.Stopped = "192.0.2.1", node.NewID(), true
	if err := errors.Join(root.SaveRecord(rec), root.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// treeOf is everything in a folder: names, modes, times of change, contents.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var data []byte
		if info.Mode().IsRegular() {
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%s %s %s %x\n", info.Mode(), path, info.ModTime(), sha256.Sum256(data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
