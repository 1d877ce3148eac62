package house

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"testing"
)

// What is not finished is not committed; who has an idea writes an issue.
func TestNothingIsLeftForLater(t *testing.T) {
	t.Parallel()
	all, _ := sources(t)
	// Put together, so that this file does not hold the words.
	words := regexp.MustCompile(`(^|[^.A-Za-z])(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	for path, text := range all.all {
		for i, line := range bytes.Split(text, []byte("\n")) {
			if words.Match(line) {
				t.Errorf("%s:%d: finish it now or write an issue: %s", path, i+1, bytes.TrimSpace(line))
			}
		}
	}
}

// Whatever is committed is true on every machine.
func TestNoPathOfOneMachine(t *testing.T) {
	t.Parallel()
	all, _ := sources(t)
	for _, word := range []string{"/wo" + "rk/", "/tmp" + "/b/"} {
		for _, path := range slices.Sorted(maps.Keys(all.all)) {
			if i := bytes.Index(all.all[path], []byte(word)); i >= 0 {
				line := 1 + bytes.Count(all.all[path][:i], []byte("\n"))
				t.Errorf("%s:%d names %s, a path of one machine: take it from an argument, or relative to the file", path, line, word)
			}
		}
	}
}
