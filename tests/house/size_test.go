package house

import (
	"go/scanner"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// The core is small, and stays so: whoever must raise this number first looks
// for what can go, or belongs into a plugin.
const mostOfCore = 37_400

// codeLines counts the lines that hold code: no blank ones, no comments.
func codeLines(text []byte) int {
	fset := token.NewFileSet()
	file := fset.AddFile("", fset.Base(), len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, 0)
	lines := map[int]bool{}
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return len(lines)
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue
		}
		first := file.Line(pos)
		for i := range 1 + strings.Count(lit, "\n") {
			lines[first+i] = true
		}
	}
}

func TestSizeOfCore(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	sizes, total := map[string]int{}, 0
	for _, s := range files {
		if !under(s.path, "core") || s.test() || under(s.path, "core/service/servicetest") {
			continue
		}
		n := codeLines(s.text)
		sizes[s.dir()] += n
		total += n
	}
	for _, dir := range slices.Sorted(maps.Keys(sizes)) {
		t.Logf("%6d  %s", sizes[dir], dir)
	}
	t.Logf("%6d  core, of %d", total, mostOfCore)
	if total > mostOfCore {
		t.Errorf("core has %d lines of code, more than %d: what of it is a decision, and so a plugin's? Raise mostOfCore only with a reason in the commit", total, mostOfCore)
	}
}
