package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange lets flags stand anywhere: urfave/cli stops looking for them at the
// first argument. Words of verbs that are passed through, and those after --,
// stay where they are.
func arrange(app *cli.App, words []string) []string {
	if len(words) == 0 {
		return words
	}
	var path, flags, rest []string
	var command *cli.Command
	commands, known := app.Commands, app.Flags
	for i := 1; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "--":
			rest = append(rest, words[i:]...)
			i = len(words)
		case len(w) > 1 && w[0] == '-':
			flags = append(flags, w)
			if takesValue(known, w) && i+1 < len(words) {
				i++
				flags = append(flags, words[i])
			}
		default:
			next := find(commands, w)
			if next == nil || len(rest) > 0 {
				rest = append(rest, w)
				continue
			}
			path, command, commands = append(path, w), next, next.Subcommands
			known = slices.Concat(app.Flags, command.Flags)
			if command.SkipFlagParsing {
				rest = append(rest, words[i+1:]...)
				return slices.Concat(words[:1], flags, path, rest)
			}
		}
	}
	return slices.Concat(words[:1], path, flags, rest)
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue tells whether a flag's value is the next word.
func takesValue(known []cli.Flag, word string) bool {
	name, _, inline := strings.Cut(strings.TrimLeft(word, "-"), "=")
	if inline {
		return false
	}
	for _, f := range known {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}

// arity is how many arguments a usage names: FILE is one, [FILE] one or none,
// FILE... one or more, [FILE...] any number. most is -1 where there is no end.
func arity(argsUsage string) (least, most int) {
	for _, w := range strings.Fields(argsUsage) {
		if most++; !strings.HasPrefix(w, "[") {
			least++
		}
		if strings.HasSuffix(strings.TrimSuffix(w, "]"), "...") {
			return least, -1
		}
	}
	return least, most
}

// outputOf is the format that the words ask for, known before they are parsed:
// what is wrong with them is said in that format, too.
func outputOf(app *cli.App, words []string, otherwise string) string {
	out := otherwise
	for i := 1; i < len(words) && words[i] != "--"; i++ {
		w := words[i]
		if c := find(app.Commands, w); c != nil && c.SkipFlagParsing {
			break
		}
		if len(w) < 2 || w[0] != '-' {
			continue
		}
		name, value, inline := strings.Cut(strings.TrimLeft(w, "-"), "=")
		if !inline && takesValue(app.Flags, w) && i+1 < len(words) {
			i++
			value = words[i]
		}
		if slices.Contains([]string{"o", "output", "format"}, name) && slices.Contains(outputs(), value) {
			out = value
		}
	}
	return out
}

// outputs are the formats of results.
func outputs() []string { return []string{"pretty", "short", "json", "yaml"} }
