package house

import (
	"go/ast"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// verb is one command of mk, read from the sources of cmd/mk: its words and
// the flags that are declared in the function which makes it.
type verb struct {
	names  []string
	flags  []string
	passed bool // its arguments are another program's
	verbs  []*verb
}

func (v *verb) find(word string) *verb {
	for _, w := range v.verbs {
		if slices.Contains(w.names, word) {
			return w
		}
	}
	return nil
}

// commandTree finds every method of cmd/mk that returns one literal of
// cli.Command.
func commandTree(t *testing.T) *verb {
	t.Helper()
	_, files := sources(t)
	root := &verb{}
	for _, s := range files {
		if s.dir() != "cmd/mk" || s.test() {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if f.Name.Name == "globalFlags" {
				root.flags = flagNames(f.Body)
				continue
			}
			if lit := returned(f); lit != nil {
				v := command(lit)
				v.flags = flagNames(f.Body)
				root.verbs = append(root.verbs, v)
			}
		}
	}
	if len(root.verbs) < 10 || len(root.flags) < 5 {
		t.Fatalf("found %d verbs and %d global flags in cmd/mk: this test no longer understands how they are declared", len(root.verbs), len(root.flags))
	}
	return root
}

// returned is the literal of a function that returns a *cli.Command.
func returned(f *ast.FuncDecl) *ast.CompositeLit {
	for _, s := range f.Body.List {
		r, ok := s.(*ast.ReturnStmt)
		if !ok || len(r.Results) != 1 {
			continue
		}
		if u, ok := r.Results[0].(*ast.UnaryExpr); ok && u.Op == token.AND {
			if lit, ok := u.X.(*ast.CompositeLit); ok && typeName(lit.Type) == "cli.Command" {
				return lit
			}
		}
	}
	return nil
}

func typeName(e ast.Expr) string {
	if sel, ok := e.(*ast.SelectorExpr); ok {
		if x, ok := sel.X.(*ast.Ident); ok {
			return x.Name + "." + sel.Sel.Name
		}
	}
	return ""
}

func command(lit *ast.CompositeLit) *verb {
	v := &verb{}
	for key, value := range fields(lit) {
		switch key {
		case "Name", "Aliases":
			v.names = append(v.names, texts(value)...)
		case "SkipFlagParsing":
			v.passed = true
		case "Subcommands":
			list, ok := value.(*ast.CompositeLit)
			if !ok {
				continue
			}
			for _, e := range list.Elts {
				if sub, ok := e.(*ast.CompositeLit); ok {
					v.verbs = append(v.verbs, command(sub))
				}
			}
		}
	}
	return v
}

func fields(lit *ast.CompositeLit) map[string]ast.Expr {
	all := map[string]ast.Expr{}
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok {
				all[key.Name] = kv.Value
			}
		}
	}
	return all
}

// texts are the strings below an expression.
func texts(e ast.Node) []string {
	var all []string
	ast.Inspect(e, func(n ast.Node) bool {
		if b, ok := n.(*ast.BasicLit); ok && b.Kind == token.STRING {
			if s, err := strconv.Unquote(b.Value); err == nil {
				all = append(all, s)
			}
		}
		return true
	})
	return all
}

// flagNames are the names of all flags that are declared below a node.
func flagNames(n ast.Node) []string {
	var all []string
	ast.Inspect(n, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || !strings.HasPrefix(typeName(lit.Type), "cli.") || !strings.HasSuffix(typeName(lit.Type), "Flag") {
			return true
		}
		f := fields(lit)
		for _, key := range []string{"Name", "Aliases"} {
			if f[key] != nil {
				all = append(all, texts(f[key])...)
			}
		}
		return true
	})
	return all
}

// usage is one command of mk in the documentation.
type usage struct {
	at    string
	words []string
}

// usages finds the commands of mk in fenced blocks of shell.
func usages(t *testing.T) []usage {
	t.Helper()
	all, _ := sources(t)
	starts := regexp.MustCompile(`(?:^|[|;&(]\s*|\bsudo\s+)mk\s+([^|;&>)#]+)`)
	var found []usage
	for _, name := range slices.Sorted(maps.Keys(all.all)) {
		if !strings.HasSuffix(name, ".md") || (strings.Contains(name, "/") && !strings.HasPrefix(name, "docs/")) {
			continue
		}
		inside := ""
		for i, line := range strings.Split(string(all.all[name]), "\n") {
			line = strings.TrimSpace(line)
			if fence, ok := strings.CutPrefix(line, "```"); ok {
				if inside != "" {
					inside = ""
				} else if inside = fence; fence == "" {
					t.Errorf("%s:%d: a fence without a language: say sh for commands, text for anything else", name, i+1)
				}
				continue
			}
			if inside != "sh" && inside != "console" {
				continue
			}
			for _, m := range starts.FindAllStringSubmatch(strings.TrimPrefix(line, "$ "), -1) {
				found = append(found, usage{name + ":" + strconv.Itoa(i+1), strings.Fields(m[1])})
			}
		}
	}
	return found
}

// A page that names a verb which is not there costs a stranger an hour.
func TestDocsNameVerbsThatExist(t *testing.T) {
	t.Parallel()
	tree := commandTree(t)
	found := usages(t)
	if len(found) < 20 {
		t.Fatalf("found %d commands in the documentation: this test no longer understands the pages", len(found))
	}
	for _, u := range found {
		checkUsage(t, tree, u)
	}
}

func checkUsage(t *testing.T, tree *verb, u usage) {
	t.Helper()
	v, flags, depth := tree, tree.flags, 0
	for _, w := range u.words {
		if strings.HasPrefix(w, "-") && w != "-" {
			name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
			if !v.passed && !slices.Contains(flags, name) && !laterFlag(tree, u, name) {
				t.Errorf("%s: mk %s: there is no flag %s", u.at, strings.Join(u.words, " "), w)
			}
			continue
		}
		if v.passed || len(v.verbs) == 0 {
			continue
		}
		next := v.find(w)
		if next == nil {
			if depth == 0 || len(v.verbs) > 0 {
				t.Errorf("%s: mk %s: there is no verb %q; correct the page, or add the verb in cmd/mk", u.at, strings.Join(u.words, " "), w)
			}
			return
		}
		v, depth = next, depth+1
		flags = append(slices.Clone(flags), v.flags...)
	}
	if depth == 0 {
		t.Errorf("%s: mk %s names no verb", u.at, strings.Join(u.words, " "))
	}
}

// laterFlag reports whether a flag belongs to the verb although it stands
// before it.
func laterFlag(tree *verb, u usage, name string) bool {
	for _, w := range u.words {
		if v := tree.find(w); v != nil {
			return slices.Contains(v.flags, name)
		}
	}
	return false
}

// The README's two commands are what a stranger types first.
func TestReadmeCommandsExist(t *testing.T) {
	t.Parallel()
	all, _ := sources(t)
	makefile := string(all.all["Makefile"])
	for _, name := range slices.Sorted(maps.Keys(all.all)) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^make ([a-z-]+)`).FindAllStringSubmatch(string(all.all[name]), -1) {
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).MatchString(makefile) {
				t.Errorf("%s says make %s, which the Makefile does not have", name, m[1])
			}
		}
	}
	for _, target := range []string{"make up", "make test"} {
		if !strings.Contains(string(all.all["README.md"]), "\n"+target+"\n") {
			t.Errorf("README.md must name %s on a line of its own", target)
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	all, _ := sources(t)
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for name, text := range all.all {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := path.Join(path.Dir(name), m[1])
			there := slices.ContainsFunc(slices.Collect(maps.Keys(all.all)), func(f string) bool { return under(f, target) })
			if !there {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
}
