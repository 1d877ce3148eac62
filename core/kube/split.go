package kube

import (
	"bytes"
	"fmt"
)

// document is one document of a YAML stream.
type document struct {
	text []byte
	// first is the line of the stream that text begins with; line the first one that says something.
	first, line int
}

// splitDocuments cuts a stream at its "---" and "..." lines, keeping count of lines. Documents that hold nothing but
// comments and blanks are left out.
func splitDocuments(data []byte) ([]document, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var docs []document
	number, first := 0, 1
	var text []byte
	flush := func() {
		if line := firstLine(text); line >= 0 {
			docs = append(docs, document{text: text, first: first, line: first + line})
		}
		text, first = nil, number+1
	}
	for line := range bytes.Lines(data) {
		number++
		end, err := isSeparator(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
		if end {
			flush()
			continue
		}
		text = append(text, line...)
	}
	flush()
	return docs, nil
}

// isSeparator takes comments behind the mark and refuses content there, which kubectl does not read either.
func isSeparator(line []byte) (bool, error) {
	for _, mark := range []string{"---", "..."} {
		rest, ok := bytes.CutPrefix(line, []byte(mark))
		if !ok {
			continue
		}
		trimmed := bytes.TrimSpace(rest)
		if len(trimmed) == 0 || (trimmed[0] == '#' && rest[0] != '#') {
			return true, nil
		}
		if rest[0] == ' ' || rest[0] == '\t' {
			return false, fmt.Errorf("content behind %q on one line", mark)
		}
	}
	return false, nil
}

// firstLine is the index of the first line that is neither blank nor a comment; -1 where there is none.
func firstLine(text []byte) int {
	i := 0
	for line := range bytes.Lines(text) {
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 && trimmed[0] != '#' {
			return i
		}
		i++
	}
	return -1
}
