package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// everyVerb calls do for every verb of the tree, with its full name.
func everyVerb(t *testing.T, do func(path string, c *cli.Command, app *cli.App)) {
	t.Helper()
	s, _, _ := testSession(t, "pretty")
	app := newApp(s)
	var walk func(path string, commands []*cli.Command)
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			do(path+" "+c.Name, c, app)
			walk(path+" "+c.Name, c.Subcommands)
		}
	}
	walk("mk", app.Commands)
}

func TestVerbsAreDescribed(t *testing.T) {
	everyVerb(t, func(path string, c *cli.Command, _ *cli.App) {
		if c.Usage == "" || len(c.Usage) > 80 {
			t.Errorf("%s: its usage is %q: one line, no more than 80 letters", path, c.Usage)
		}
		if c.Action == nil {
			t.Errorf("%s does nothing", path)
		}
		// An example is a line that can be typed.
		for line := range strings.Lines(c.Description) {
			if line = strings.TrimPrefix(strings.TrimSpace(line), "sudo "); !strings.HasPrefix(line, path) && !strings.HasPrefix(line, "mk "+c.Name) {
				t.Errorf("%s: the example %q is of another verb", path, line)
			}
		}
		if c.Description == "" {
			t.Errorf("%s has no example", path)
		}
		if !strings.HasPrefix(c.UsageText, "0 done, ") && !c.SkipFlagParsing {
			t.Errorf("%s: its exit codes are %q", path, c.UsageText)
		}
	})
}

// The codes that a verb lists are those that mk help exit-codes explains.
func TestExitCodesAreKnown(t *testing.T) {
	topic := topics()["exit-codes"]
	everyVerb(t, func(path string, c *cli.Command, _ *cli.App) {
		if c.SkipFlagParsing {
			return
		}
		for part := range strings.SplitSeq(c.UsageText, ", ") {
			code, _, _ := strings.Cut(part, " ")
			if !strings.Contains(topic, "\n  "+code+" ") {
				t.Errorf("%s: mk help exit-codes does not know %q", path, part)
			}
		}
	})
}

func TestExamplesAreTaken(t *testing.T) {
	everyVerb(t, func(path string, c *cli.Command, app *cli.App) {
		for line := range strings.Lines(c.Description) {
			line, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "sudo "), " > ")
			words := arrange(app, strings.Fields(line))
			commands, flags := app.Commands, app.Flags
			for _, w := range words[1:] {
				if next := find(commands, w); next != nil {
					commands, flags = next.Subcommands, next.Flags
					if next.SkipFlagParsing {
						break
					}
				} else if name := strings.TrimLeft(w, "-"); name != w && w != "-" && !slices.Contains(flagNames(flags), name) {
					t.Errorf("%s: its example %q has a flag that does not exist: %s", path, line, w)
				}
			}
		}
	})
}

func TestNoFlagHidesAGlobalOne(t *testing.T) {
	s, _, _ := testSession(t, "pretty")
	globals := append(flagNames(globalFlags(s)), "help", "h")
	everyVerb(t, func(path string, c *cli.Command, _ *cli.App) {
		seen := map[string]bool{}
		for _, name := range flagNames(c.Flags) {
			if seen[name] {
				t.Errorf("%s has two flags --%s", path, name)
			}
			seen[name] = true
		}
		if c.SkipFlagParsing {
			return
		}
		for _, name := range globals {
			if name != "help" && name != "h" && !seen[name] {
				t.Errorf("%s does not take --%s", path, name)
			}
		}
	})
}

// A dead verb says only that it does nothing; and two must not share a name.
func TestNamesAreUsedOnce(t *testing.T) {
	seen := map[string]string{}
	everyVerb(t, func(path string, c *cli.Command, _ *cli.App) {
		parent := strings.TrimSuffix(path, c.Name)
		for _, name := range c.Names() {
			if other := seen[parent+name]; other != "" {
				t.Errorf("%s%s is both %s and %s", parent, name, other, path)
			}
			seen[parent+name] = path
		}
		if c.Hidden && path != "mk daemon" && path != "mk agent" && path != "mk apiserver-proxy" {
			t.Errorf("%s is hidden: only what a service runs is", path)
		}
	})
}

// A noun with verbs of its own is the same word in singular and plural, and
// lists where it stands alone.
func TestNouns(t *testing.T) {
	everyVerb(t, func(path string, c *cli.Command, _ *cli.App) {
		if len(c.Subcommands) == 0 {
			return
		}
		other := c.Name + "s"
		if one, ok := strings.CutSuffix(c.Name, "s"); ok {
			other = one
		}
		if !slices.Contains(c.Aliases, other) {
			t.Errorf("%s is not also mk %s", path, other)
		}
		if find(c.Subcommands, "list") == nil {
			t.Errorf("%s has no list", path)
		}
		if list := find(c.Subcommands, "list"); list != nil {
			for _, name := range flagNames(list.Flags) {
				if !slices.Contains(flagNames(c.Flags), name) {
					t.Errorf("%s: alone it lists, but does not take --%s", path, name)
				}
			}
		}
		if !strings.Contains(strings.Split(c.Usage, " ")[0], "list") {
			t.Errorf("%s: alone it lists, but says %q", path, c.Usage)
		}
	})
}

func TestEveryVerbHasItsFile(t *testing.T) {
	s, _, _ := testSession(t, "pretty")
	for _, c := range newApp(s).Commands {
		file := strings.ReplaceAll(c.Name, "-", "_") + ".go"
		text, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("mk %s: %v", c.Name, err)
			continue
		}
		if !strings.Contains(string(text), `Name: "`+c.Name+`"`) {
			t.Errorf("%s does not hold mk %s", file, c.Name)
		}
	}
}

// The help of every verb is one screen, its example first and its exit codes
// last, and does not repeat the global flags.
func TestHelpOfEveryVerb(t *testing.T) {
	var paths []string
	everyVerb(t, func(path string, c *cli.Command, _ *cli.App) {
		if !c.SkipFlagParsing && path != "mk help" { // its help is mk's
			paths = append(paths, path)
		}
	})
	for _, path := range paths {
		s, out, _ := testSession(t, "pretty")
		if err := newApp(s).RunContext(t.Context(), append(strings.Fields(path), "--help")); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		last := lines[len(lines)-1]
		if len(lines) > 40 || !strings.Contains(lines[0], "mk ") || !strings.HasPrefix(last, "exit  0 done") {
			t.Errorf("%s: %d lines, the first %q, the last %q", path, len(lines), lines[0], last)
		}
		if strings.Contains(out.String(), "--progress") || !strings.Contains(out.String(), "\nglobal flags: mk help\n") {
			t.Errorf("%s repeats the global flags:\n%s", path, out)
		}
	}
}
