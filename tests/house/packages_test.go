package house

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestPackageNames(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	bad := []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "shared", "base", "models", "lib"}
	seen := map[string]bool{}
	for _, s := range files {
		for _, n := range []string{s.file.Name.Name, path.Base(s.dir())} {
			if slices.Contains(bad, strings.TrimSuffix(n, "_test")) && !seen[s.dir()] {
				seen[s.dir()] = true
				t.Errorf("%s: a package is a noun that says what it holds, not %q: name the thing, or move the function to its one user", s.dir(), n)
			}
		}
	}
}

// Every package says once what it guarantees.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	all, _ := sources(t)
	written := map[string][]string{} // by folder: the files that hold the comment
	for _, s := range all.files {
		if strings.HasSuffix(s.path, "_test.go") || (s.generated && strings.HasPrefix(s.path, "sdk/proto/")) {
			continue // the .proto files hold the comments of generated packages
		}
		at := written[s.dir()]
		if s.file.Doc != nil && strings.TrimSpace(s.file.Doc.Text()) != "" {
			at = append(at, s.path)
		}
		written[s.dir()] = at
	}
	for dir, files := range written {
		switch len(files) {
		case 0:
			t.Errorf("%s has no package comment: say in one file what the package guarantees and what it does not", dir)
		case 1:
		default:
			t.Errorf("%s has %d package comments (%s): keep one", dir, len(files), strings.Join(files, ", "))
		}
	}
}

// What mk says of etcd's version is of the client that it is built with: it is
// that of the server.
func TestEtcdIsOneVersion(t *testing.T) {
	t.Parallel()
	versions := map[string]bool{}
	for _, file := range []string{"go.mod", "cmd/kubelite/go.mod"} {
		data, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`go\.etcd\.io/etcd/[a-z/]+v3 (v\S+)`).FindAllStringSubmatch(string(data), -1) {
			versions[m[1]] = true
		}
	}
	if len(versions) != 1 {
		t.Errorf("etcd's modules have the versions %v", versions)
	}
}
