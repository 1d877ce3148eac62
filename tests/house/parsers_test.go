package house

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// reads is code that reads what comes from outside: from people, plugins,
// other nodes, or from a file that they may have edited.
type reads struct {
	dir      string   // of the package
	function []string // exported functions that begin there
	fuzz     []string // the tests that throw anything at it
}

func parsers() []reads {
	return []reads{
		{"core/apiproxy", []string{"ParseList"}, []string{"FuzzParseList"}},
		{"core/args", []string{"Load", "Parse"}, []string{"FuzzParse", "FuzzSet"}},
		{"core/args", []string{"Unmarshal"}, []string{"FuzzOwners"}},
		{"core/datastore/etcd", nil, []string{"FuzzAnswers"}},
		{"core/kube", []string{"ParseManifests"}, []string{"FuzzParseManifests"}},
		{"core/kubeconfig", []string{"Parse"}, []string{"FuzzParse", "FuzzMerge"}},
		{"core/kubeconfig", []string{"ParseTokens"}, []string{"FuzzTokens"}},
		{"core/joinstring", []string{"Parse"}, []string{"FuzzParse"}},
		{"core/peer", []string{"ParseLogLine"}, []string{"FuzzParseLogLine"}},
		{"core/membership", []string{"ParseTaint", "ParseMarks"}, []string{"FuzzTaint", "FuzzMarks"}},
		{"core/microk8s", []string{"ParseJoin", "ParseSign", "ParseConfigure"}, []string{"FuzzBodies"}},
		{"core/lock", nil, []string{"FuzzOwner"}},
		{"core/neighbour", nil, []string{"FuzzListening"}},
		{"core/node", []string{"ParseRecord", "LoadRecord"}, []string{"FuzzRecord"}},
		{"core/change", nil, []string{"FuzzReadJournal"}},
		{"core/pluginhost", nil, []string{"FuzzLog"}},
		{"core/pki", []string{"ParseConf"}, []string{"FuzzConf"}},
		{"core/pki", []string{"ParseCSR"}, []string{"FuzzCSR"}},
		{"core/pki", []string{"ParseCertificate", "ParseSent", "ParseBundle", "Inspect", "InspectBundle", "ParseKey"}, []string{"FuzzCertificate"}},
		{"core/service/logfile", nil, []string{"FuzzPickError", "FuzzEntry"}},
		{"core/service/process", nil, []string{"FuzzParseStat"}},
		{"core/service/supervisor", nil, []string{"FuzzParseState"}},
		{"core/service/systemd", nil, []string{"FuzzQuote", "FuzzParseDefinitions"}},
		{"core/snapshot", []string{"Parse", "ParseRecipients", "ParseIdentities"}, []string{"FuzzParse"}},
		{"core/settings", []string{"Load", "Parse", "ParseDuration"}, []string{"FuzzSettings"}},
		{"pluginsdir", []string{"LoadSettings"}, []string{"FuzzCheckSettings"}},
		{"pluginsdir", nil, []string{"FuzzReceipts"}},
		{"pluginsdir/lockfile", []string{"Parse"}, []string{"FuzzParse"}},
		{"pluginsdir/manifest", []string{"Parse", "ParseStored"}, []string{"FuzzParse"}},
		{"pluginsdir/schema", []string{"Decode"}, []string{"FuzzCheck"}},
		{"pluginsdir/strict", []string{"Read", "ReadAnyText", "Decode"}, []string{"FuzzRead"}},
		{"sdk/changeset", []string{"UnmarshalJSON", "UnmarshalText"}, []string{"FuzzJSON"}},
		{"sdk/internal/wire", nil, []string{"FuzzChangeSet"}},
		{"sdk/seal", nil, []string{"FuzzOpen"}},
		{"sdk/state", []string{"Read"}, []string{"FuzzRead"}},
		{"plugins/certs-local", nil, []string{"FuzzCSR"}},
		{"plugins/tokens-file/ledger", []string{"ParseID", "ReadLine"}, []string{"FuzzLines"}},
		{"cmd/kubelite/oneprocess", nil, []string{"FuzzUnify"}},
		{"cmd/parts/flanneld", nil, []string{"FuzzSubnetFile"}},
	}
}

// noParsers are functions whose names look like parsers and that are none, or
// that read only what mk itself wrote, by folder and name.
func noParsers() map[string]string {
	return map[string]string{
		"core/service/logfile.ParseLevel": "one of a few words",

		"core/membership.Read": "an io.Reader",

		"core/agent.Read":               "an io.Reader",
		"core/datastore/etcd.Unmarshal": "bytes, handed through",
		"core/kube.Ready":               "an adjective",
		"core/kube.ReadDocument":        "answers of the API server, decoded by client-go",
		"core/netinfo.Read":             "the kernel's answer",
		"core/pluginhost.Read":          "an io.Reader",
		"core/node.ReadFile":            "bytes",
		"core/node.ReadDir":             "names",
		"core/node.Readlink":            "a name",
		"core/service.ReadFile":         "bytes, for the managers' parsers",
		"core/pki.ParseKeyType":         "one of a few words",
		"core/operation.Read":           "the callback: bytes of a file",
		"core/operation.LoadRecord":     "a record of the journal, below a folder of root's, written by mk; JSON into a struct",
		"pluginsdir.LoadDescribed":      "written by mk, named by digest; JSON into a struct",
		"pluginsdir/folder.Read":        "a tree of files: bounded by Limits, opened through os.Root",
		"sdk/hostrpc.Read":              "a call",
	}
}

// owed are parsers of outside input without a fuzz test, today. Nothing may
// be added.
func owed() map[string]string {
	return map[string]string{}
}

func TestParsersAreFuzzed(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	fuzz := map[string]bool{} // folder + "." + name
	for _, s := range files {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasSuffix(s.path, "_test.go") && strings.HasPrefix(f.Name.Name, "Fuzz") {
				fuzz[s.dir()+"."+f.Name.Name] = true
			}
		}
	}
	for _, p := range parsers() {
		for _, f := range p.fuzz {
			if !fuzz[p.dir+"."+f] {
				t.Errorf("%s has no test %s: throw any bytes at the parser beside it; it may refuse them, never panic, hang or change what it accepted", p.dir, f)
			}
			delete(fuzz, p.dir+"."+f)
		}
	}
	for dir, what := range owed() {
		for f := range fuzz {
			if strings.HasPrefix(f, dir+".") {
				t.Errorf("%s is there for %s: move the entry from owed to parsers", f, what)
				delete(fuzz, f)
			}
		}
	}
}

func TestParsersAreListed(t *testing.T) {
	t.Parallel()
	looks := regexp.MustCompile(`^(Parse|Read|Load|Decode|Unmarshal)`)
	known := map[string]bool{}
	for _, p := range parsers() {
		for _, f := range p.function {
			known[p.dir+"."+f] = true
		}
	}
	not := except(noParsers())
	_, files := sources(t)
	for _, s := range files {
		inside := slices.ContainsFunc([]string{"core", "pluginsdir", "sdk", "plugins"}, func(f string) bool { return under(s.path, f) })
		if !inside || s.test() || strings.Contains(s.path, "/testdata/") {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !looks.MatchString(f.Name.Name) {
				continue
			}
			place := s.dir() + "." + f.Name.Name
			if !known[place] && !not.allow(place) {
				t.Errorf("%s reads something and stands in no row of parsers() in this test: add it with its Fuzz test, or to noParsers() with the reason", place)
			}
		}
	}
	not.unneeded(t)
}
