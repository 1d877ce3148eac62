package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// documents are the types of everything that mk prints as a document, with
// where it does.
type documents struct {
	t    *testing.T
	fset *token.FileSet
	info types.Info
	seen map[types.Type]bool
}

// TestDocuments: in every document of every verb, keys are camelCase, lifetimes
// are no nanoseconds, and nothing is left to chance: a field without a name, a
// value of any type.
func TestDocuments(t *testing.T) {
	d := &documents{t: t, fset: token.NewFileSet(), seen: map[types.Type]bool{},
		info: types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Instances: map[*ast.Ident]types.Instance{}, Uses: map[*ast.Ident]types.Object{}}}
	found := 0
	for _, f := range d.check() {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch name := called(call); {
			case d.fset.Position(call.Pos()).Filename == "config.go" && name == "document":
				// a kubeconfig is kubectl's document
			case (name == "show" || name == "document") && len(call.Args) > 0 && !d.handedOn(call):
				found++
				d.printed(call.Args[0])
			case name == "lookFar":
				found++
				d.instance(call)
			}
			return true
		})
	}
	if found < 40 {
		t.Errorf("only %d documents were found", found)
	}
}

// check reads the package with its types.
func (d *documents) check() []*ast.File {
	d.t.Helper()
	out, err := exec.CommandContext(d.t.Context(), "go", "list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}", ".").Output()
	if err != nil {
		d.t.Fatal(err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		exports[path] = file
	}
	paths, err := filepath.Glob("*.go")
	if err != nil {
		d.t.Fatal(err)
	}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") || p == "crashpoint.go" { // of another build
			continue
		}
		f, err := parser.ParseFile(d.fset, p, nil, 0)
		if err != nil {
			d.t.Fatal(err)
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: importer.ForCompiler(d.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
	if _, err := conf.Check("mk8s.io/mk/cmd/mk", d.fset, files, &d.info); err != nil {
		d.t.Fatal(err)
	}
	return files
}

func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// handedOn is for show and lookFar themselves, which print what they were given,
// and for other methods of that name.
func (d *documents) handedOn(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || d.info.TypeOf(sel.X).String() != "*mk8s.io/mk/cmd/mk.session" {
		return true
	}
	t := d.info.TypeOf(call.Args[0]).String()
	return t == "any" || t == "[]mk8s.io/mk/cmd/mk.nodeAnswer[T]"
}

func (d *documents) printed(e ast.Expr) {
	at := d.fset.Position(e.Pos()).String()
	if lit, ok := e.(*ast.CompositeLit); ok {
		for _, el := range lit.Elts {
			if kv, ok := el.(*ast.KeyValueExpr); ok && d.info.Types[kv.Key].Value != nil {
				d.key(at, constant.StringVal(d.info.Types[kv.Key].Value))
			}
		}
	}
	d.walk(at, d.info.TypeOf(e))
}

func (d *documents) instance(call *ast.CallExpr) {
	if id, ok := call.Fun.(*ast.Ident); ok {
		d.walk(d.fset.Position(call.Pos()).String(), d.info.Instances[id].TypeArgs.At(0))
	}
}

func (d *documents) key(at, name string) {
	if !regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`).MatchString(name) {
		d.t.Errorf("%s: the key %q is not camelCase", at, name)
	}
}

// walk looks at a type as encoding/json does.
func (d *documents) walk(at string, t types.Type) {
	if d.seen[t] {
		return
	}
	d.seen[t] = true
	if name := t.String(); name == "time.Duration" {
		d.t.Errorf("%s: a time.Duration is printed as nanoseconds: lifetimes are seconds", at)
	} else if name == "encoding/json.RawMessage" && strings.HasSuffix(at, "operation.Record.Params") || d.marshals(t) {
		return // what an operation was given: its own types
	}
	switch u := t.Underlying().(type) {
	case *types.Pointer:
		d.walk(at, u.Elem())
	case *types.Slice:
		d.walk(at, u.Elem())
	case *types.Array:
		d.walk(at, u.Elem())
	case *types.Map:
		d.walk(at, u.Elem())
	case *types.Interface:
		d.t.Errorf("%s: %s says nothing about what is printed", at, t)
	case *types.Struct:
		d.fields(at, t, u)
	}
}

func (d *documents) fields(at string, t types.Type, s *types.Struct) {
	for i := range s.NumFields() {
		f := s.Field(i)
		name, options, _ := strings.Cut(reflect.StructTag(s.Tag(i)).Get("json"), ",")
		inside := fmt.Sprintf("%s: %s.%s", strings.SplitN(at, ": ", 2)[0], types.TypeString(t, func(p *types.Package) string { return p.Name() }), f.Name())
		switch {
		case name == "-" || !f.Exported() && !f.Embedded():
		case name == "" && f.Embedded():
			d.walk(inside, f.Type())
		case name == "":
			d.t.Errorf("%s has no json name", inside)
		default:
			d.key(inside, name)
			if bytes.Contains([]byte(options), []byte("string")) {
				d.t.Errorf("%s is printed as a string", inside)
			}
			d.walk(inside, f.Type())
		}
	}
}

// marshals reports whether a type says itself how it is printed.
func (d *documents) marshals(t types.Type) bool {
	for _, name := range []string{"MarshalJSON", "MarshalText"} {
		if m, _, _ := types.LookupFieldOrMethod(t, true, nil, name); m != nil {
			_, is := m.(*types.Func)
			return is && t.String() != "encoding/json.RawMessage"
		}
	}
	return false
}
