package main

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

// longestWord is the longest that is compared: no verb or flag comes near.
const longestWord = 40

// nearest is the name that most likely was meant, or nothing.
func nearest(word string, names []string) string {
	letters := len([]rune(word))
	if letters > longestWord {
		return ""
	}
	best, at := "", letters/2+1
	for _, n := range names {
		if d := distance(word, n); d < at {
			best, at = n, d
		}
	}
	return best
}

// unknown is a word that names none of a closed set; list is the command that
// shows what there is.
func unknown(what, word string, known []string, list string) *problem {
	p := usage("there is no %s %.60q", what, word)
	near := nearest(word, known)
	switch {
	case near != "":
		p.Why = "did you mean " + near + "?"
	case len(known) > 0 && len(known) <= mostNamed:
		p.Why = "there are: " + strings.Join(known, ", ")
	}
	if list != "" {
		p.Next = []string{list}
	}
	return p
}

// mostNamed is how many names are shown where none is near.
const mostNamed = 20

// unknownName is a word that the core found to name nothing.
func unknownName(e *operation.UnknownError) *problem {
	list := map[string]string{"service": "mk status", "addon": "mk addons", "certificate": "mk certs", "node": "mk node", "change": "mk changes", "snapshot": "mk datastore snapshot list"}
	p := unknown(e.What, e.Name, e.Known, list[e.What])
	p.Reason = string(e.Reason)
	return p
}

// distance is how many letters must be changed, added or left out; two that
// are swapped count as one.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, row := make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		next := make([]int, len(y)+1)
		next[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(y)]
}

// usageErrorOf says in mk's words what the flags of a verb do not allow. flags
// is read when something is wrong: a verb's are complete only later.
func usageErrorOf(path string, flags *[]cli.Flag) cli.OnUsageErrorFunc {
	return func(_ *cli.Context, err error, _ bool) error {
		if p, ok := errors.AsType[*problem](err); ok {
			return p
		}
		return flagProblem(path, *flags, err.Error())
	}
}

// flagProblem knows what the flag package says.
func flagProblem(path string, flags []cli.Flag, text string) *problem {
	help := path + " --help"
	if path == "mk" {
		help = "mk help"
	}
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		p := usage("there is no flag %s in %s", dashed(name), path)
		p.Next = []string{help}
		if near := nearest(name, flagNames(flags)); near != "" {
			p.Next = []string{path + " " + dashed(near)}
		}
		return p
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		p := usage("%s needs a value", dashed(strings.TrimLeft(name, "-")))
		p.Next = []string{help}
		return p
	}
	p := usage("%s", text)
	form := regexp.MustCompile(`(?s)^invalid (?:boolean )?value (".*") for (?:flag )?-+([^ :]+): (.*)$`)
	if m := form.FindStringSubmatch(text); m != nil {
		p = usage("%s cannot be %s", dashed(m[2]), m[1])
		p.Why = m[3]
	}
	p.Next = []string{help}
	return p
}

func flagNames(flags []cli.Flag) []string {
	var out []string
	for _, f := range flags {
		out = append(out, f.Names()...)
	}
	slices.SortStableFunc(out, func(a, b string) int { return len(b) - len(a) }) // words before letters
	return out
}

// dashed is a flag as it is typed.
func dashed(name string) string {
	if len([]rune(name)) == 1 {
		return "-" + name
	}
	return "--" + name
}
