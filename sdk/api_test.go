package sdk_test

import (
	"bytes"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mk8s.io/mk/sdk/sdktest"
)

// TestAPI holds every exported symbol of the public packages against a golden:
// what vendors import changes only on purpose.
func TestAPI(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	for _, dir := range publicPackages(t) {
		out.WriteString(exported(t, dir))
	}
	sdktest.GoldenText(t, "api", out.String())
}

func publicPackages(t *testing.T) []string {
	t.Helper()
	dirs := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "internal" || d.Name() == "testdata" || d.Name() == "proto") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			dirs[filepath.Dir(path)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(dirs))
}

func exported(t *testing.T, dir string) string {
	t.Helper()
	files := token.NewFileSet()
	var parsed []*ast.File
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, filepath.Join(dir, e.Name()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	path := "mk8s.io/mk/sdk/" + filepath.ToSlash(dir)
	p, err := doc.NewFromFiles(files, parsed, strings.TrimSuffix(path, "/."))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	out.WriteString("package " + p.ImportPath + "\n")
	show := func(n ast.Node) {
		if f, ok := n.(*ast.FuncDecl); ok {
			f.Body = nil
		}
		if err := printer.Fprint(&out, files, n); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	values := func(list []*doc.Value) {
		for _, v := range list {
			show(v.Decl)
		}
	}
	functions := func(list []*doc.Func) {
		for _, f := range list {
			show(f.Decl)
		}
	}
	values(p.Consts)
	values(p.Vars)
	functions(p.Funcs)
	for _, ty := range p.Types {
		show(ty.Decl)
		values(ty.Consts)
		values(ty.Vars)
		functions(ty.Funcs)
		functions(ty.Methods)
	}
	out.WriteString("\n")
	return out.String()
}
