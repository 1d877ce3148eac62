package main

import (
	"io"
	"strings"
	"unicode"
)

// splitLines are the lines that are not empty.
func splitLines(s string) []string {
	var out []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// printable is text without what a terminal would act on: plugins and services
// choose what they say. Line ends and tabs stay; so do escapes' harmless rests.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, text)
}

// printableWriter writes only what is printable.
type printableWriter struct{ w io.Writer }

// Write takes whole texts: a character that is cut in two is lost.
func (p printableWriter) Write(data []byte) (int, error) {
	if _, err := io.WriteString(p.w, printable(string(data))); err != nil {
		return 0, err
	}
	return len(data), nil
}
