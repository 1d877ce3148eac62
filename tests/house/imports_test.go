package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// listed is one package as go list has it.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Standard     bool
}

func (p *listed) ours() bool {
	return p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/")
}

// name is the path below the module: core/node.
func name(path string) string { return strings.TrimPrefix(path, module+"/") }

var listPackages = sync.OnceValues(func() ([]*listed, error) { //nolint:gochecknoglobals // read once, never changed
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Imports,TestImports,XTestImports,Standard", "./...")
	cmd.Dir = top
	out, err := cmd.Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, errors.Join(err, errors.New(string(e.Stderr)))
		}
		return nil, err
	}
	var all []*listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, &p)
	}
})

func packages(t *testing.T) []*listed {
	t.Helper()
	all, err := listPackages()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return all
}

// direct is every import of a package; with its tests' where tests is true.
func (p *listed) direct(tests bool) []string {
	all := slices.Clone(p.Imports)
	if tests {
		all = append(append(all, p.TestImports...), p.XTestImports...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// wing is one part of the house and what of ours it may import, tests included.
type wing struct {
	prefix string
	may    []string
	why    string
}

func wings() []wing {
	return []wing{
		{"cmd/mk", []string{"core", "pluginsdir", "sdk"}, "the command line parses, calls the core and prints; move what it needs into core"},
		{"core", []string{"core", "pluginsdir", "sdk"}, "the core knows no command line and no plugin; take an interface from the caller"},
		{"pluginsdir", []string{"pluginsdir", "sdk"}, "pluginsdir manages a folder; let core/operation do the rest around it"},
		{"plugins", []string{"sdk"}, "a plugin that ships has no privilege that a vendor's has not; if the sdk lacks something, add it there for everyone"},
		{"sdk", []string{"sdk"}, "vendors import the sdk; it must not bring anything of the node with it"},
	}
}

// ownPlugin reports whether both packages belong to one plugin.
func ownPlugin(a, b string) bool {
	one, other := strings.Split(a, "/"), strings.Split(b, "/")
	return one[0] == "plugins" && other[0] == "plugins" && len(one) > 1 && len(other) > 1 && one[1] == other[1]
}

// under reports whether a path is a folder or below it.
func under(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func TestImportsBetweenWings(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !p.ours() {
			continue
		}
		for _, w := range wings() {
			if !under(name(p.ImportPath), w.prefix) {
				continue
			}
			for _, i := range p.direct(true) {
				if !under(i, module) {
					continue
				}
				ok := slices.ContainsFunc(w.may, func(m string) bool { return under(name(i), m) }) || ownPlugin(name(p.ImportPath), name(i))
				if !ok {
					t.Errorf("%s imports %s: %s", name(p.ImportPath), name(i), w.why)
				}
			}
		}
	}
}

// floors are the packages of core from the roof down. A package imports
// packages of lower floors only; those of one floor do not know each other.
func floors() [][]string {
	return [][]string{
		{"agent"},
		{"observe"},
		{"membership"},
		{"recovery"},
		{"operation"},
		{"pluginhost", "cluster"},
		{"change"},
		{"defaults", "remains", "apiproxy"},
		{"service", "kube", "datastore", "peer", "microk8s", "args", "netinfo", "kubeconfig", "settings", "snapshot"},
		{"node", "pki"},
		{"lock", "neighbour", "version", "joinstring", "revoked"},
		{"timer"},
	}
}

func floor(pkg string) (number int, first string) {
	first, _, _ = strings.Cut(strings.TrimPrefix(pkg, "core/"), "/")
	for i, names := range floors() {
		if slices.Contains(names, first) {
			return len(floors()) - i, first
		}
	}
	return 0, first
}

func TestImportsInsideCoreGoDown(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !under(p.ImportPath, module+"/core") {
			continue
		}
		own, first := floor(name(p.ImportPath))
		if own == 0 {
			t.Errorf("%s has no floor: say in floors() of this test, and in SCOPE.md, above which packages it stands", name(p.ImportPath))
			continue
		}
		for _, i := range p.Imports {
			if !under(i, module+"/core") {
				continue
			}
			if theirs, other := floor(name(i)); other != first && theirs >= own {
				t.Errorf("%s imports %s, which stands no lower: declare a small interface in %s and let core/operation hand in the value", name(p.ImportPath), name(i), first)
			}
		}
	}
}

// guest is a third-party package that only some of ours may import.
type guest struct {
	path string
	in   []string // folders of ours; none: nowhere in this module
	why  string
}

func guests() []guest {
	return []guest{
		{"k8s.io/kubernetes", nil, "it makes every build of mk a build of Kubernetes: use k8s.io/client-go, or put the code into cmd/kubelite"},
		{"github.com/urfave/cli", []string{"cmd/mk"}, "flags belong to the command line: take a struct of options"},
		{"github.com/hashicorp/go-plugin", []string{"core/pluginhost", "sdk"}, "ask plugins through the Go interfaces of the sdk"},
		{"google.golang.org/grpc", []string{"core/pluginhost", "core/datastore/etcd", "sdk"}, "ask plugins through the Go interfaces of the sdk; reasons of errors are in sdk/plugin"},
		{"go.etcd.io/etcd", []string{"core/datastore"}, "the datastore is the business of core/datastore"},
		{"github.com/stretchr/testify", nil, "the standard testing package is enough"},
		{"github.com/onsi", nil, "the standard testing package is enough"},
		{"github.com/pkg/errors", nil, "use fmt.Errorf with %w"},
	}
}

func TestImportsOfOthers(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !p.ours() {
			continue
		}
		for _, i := range p.direct(true) {
			for _, g := range guests() {
				ok := slices.ContainsFunc(g.in, func(f string) bool { return under(name(p.ImportPath), f) })
				if under(i, g.path) && !ok && !under(name(p.ImportPath), "tests") {
					t.Errorf("%s imports %s: %s", name(p.ImportPath), i, g.why)
				}
			}
		}
	}
}

// What strangers write imports the sdk alone: if that is not enough for them,
// the sdk lacks something.
func TestVendorsImportTheSDK(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	found := false
	for _, s := range files {
		if !under(s.path, "tests/vendors") {
			continue
		}
		for _, i := range s.file.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			found = found || under(path, module+"/sdk")
			if under(path, module) && !under(path, module+"/sdk") {
				t.Errorf("%s imports %s: a vendor has the sdk, and nothing else of mk", s.path, path)
			}
		}
	}
	if !found {
		t.Error("no plugin in tests/vendors imports the sdk: this test no longer understands them")
	}
}

// Not even somebody else's import may bring Kubernetes itself.
func TestKubernetesStaysOut(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if under(p.ImportPath, "k8s.io/kubernetes") {
			t.Errorf("%s is in the import graph of the root module: find who brings it with `go mod why %s`, and replace that", p.ImportPath, p.ImportPath)
		}
	}
	all, _ := sources(t)
	if strings.Contains(string(all.all["go.mod"]), "k8s.io/kubernetes ") {
		t.Error("go.mod requires k8s.io/kubernetes: it belongs into cmd/kubelite/go.mod")
	}
}

// What a program links prepares itself before main, at each start of it, for
// whatever it is asked.
func TestMKStartsLight(t *testing.T) {
	t.Parallel()
	heavy := map[string]string{
		"k8s.io/client-go/kubernetes": "it registers every API of Kubernetes: give core/kube the kind that you need, in typed.go",
		"go.etcd.io/etcd/client/v3":   "its messages prepare themselves for more than all else of mk: ask with core/datastore/etcd",
		"k8s.io/kubectl":              "it brings kustomize, translations and a scheme of its own: let kubelite do it, as core/kube has it drain",
	}
	known := map[string]*listed{}
	for _, p := range packages(t) {
		known[p.ImportPath] = p
	}
	seen := map[string]bool{}
	var walk func(path string)
	walk = func(path string) {
		p := known[path]
		if p == nil || p.Standard || seen[path] {
			return
		}
		seen[path] = true
		for _, i := range p.Imports {
			for h, why := range heavy {
				if under(i, h) {
					t.Errorf("cmd/mk links %s, through %s: %s", i, path, why)
				}
			}
			walk(i)
		}
	}
	walk(module + "/cmd/mk")
	if !seen["k8s.io/client-go/rest"] {
		t.Error("cmd/mk does not seem to link client-go: this test no longer understands what go list says")
	}
}
