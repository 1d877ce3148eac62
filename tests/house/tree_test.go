package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is the path of the root module.
const module = "mk8s.io/mk"

// top is the folder of the root module, seen from this package.
const top = "../.."

// source is one parsed Go file.
type source struct {
	path      string // below the root module's folder, with slashes
	text      []byte
	file      *ast.File
	generated bool
}

// test reports whether a file is code of tests.
func (s *source) test() bool {
	return strings.HasSuffix(s.path, "_test.go") || strings.HasPrefix(s.path, "tests/")
}

func (s *source) dir() string { return filepath.ToSlash(filepath.Dir(s.path)) }

// tree is what all tests of this package read, once.
type tree struct {
	fset  *token.FileSet
	files []*source         // Go files
	all   map[string][]byte // every text file, by path
}

var readTree = sync.OnceValues(func() (*tree, error) { //nolint:gochecknoglobals // read once, never changed
	t := &tree{fset: token.NewFileSet(), all: map[string][]byte{}}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "out", "node_modules"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || d.Name() == ".git" { // a file where the folder is a worktree
			return nil
		}
		return t.add(path)
	})
	return t, err
})

func (t *tree) add(path string) error {
	name, err := filepath.Rel(top, path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil // no text
	}
	name = filepath.ToSlash(name)
	t.all[name] = text
	if !strings.HasSuffix(name, ".go") {
		return nil
	}
	file, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.files = append(t.files, &source{path: name, text: text, file: file, generated: ast.IsGenerated(file)})
	return nil
}

// sources are all Go files that people write.
func sources(t *testing.T) (*tree, []*source) {
	t.Helper()
	all, err := readTree()
	if err != nil {
		t.Fatalf("read the sources: %v", err)
	}
	var written []*source
	for _, s := range all.files {
		if !s.generated {
			written = append(written, s)
		}
	}
	return all, written
}

// exceptions allow what a rule forbids, by place, with the reason.
type exceptions struct {
	reasons map[string]string
	mu      sync.Mutex
	used    map[string]bool
}

func except(reasons map[string]string) *exceptions {
	return &exceptions{reasons: reasons, used: map[string]bool{}}
}

// allow reports whether a place is excepted, and remembers that it was needed.
func (e *exceptions) allow(place string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.used[place] = true
	return e.reasons[place] != ""
}

// unneeded fails for exceptions that no place needs any more.
func (e *exceptions) unneeded(t *testing.T) {
	t.Helper()
	for place := range e.reasons {
		if !e.used[place] {
			t.Errorf("%s needs its exception no longer: remove it from the list in this test", place)
		}
	}
}
