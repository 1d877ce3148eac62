package operation

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service/logfile"
)

// A name leads to the log of a service of this node's role, and to no other
// file.
func TestLogsAreOfServices(t *testing.T) {
	t.Parallel()
	base := openFolder(t)
	mk := filepath.Join(base, "bin", "mk")
	writeFile(t, mk, "#!/bin/false\n", 0o755)
	n, err := CreateNode(child{Root: filepath.Join(base, "node"), Mk: mk, Command: "start"}.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(n.Close(), os.RemoveAll(n.Root.RunDir())); err != nil {
			t.Error(err)
		}
	})
	n.Record = &node.Record{Role: node.Worker}
	writeFile(t, n.Root.Logs("kubelite"), "E1126 07:00:02.000000 1 x.go:1] two\n", 0o640)
	writeFile(t, n.Root.Logs("apiserver-proxy"), "I1126 07:00:01.000000 1 x.go:1] one\nI1126 07:00:03.000000 1 x.go:1] three\n", 0o640)
	for _, c := range []struct {
		query LogQuery
		want  string // the last words of the lines; "-" is refused
	}{
		{LogQuery{}, "one two three"},
		{LogQuery{Level: logfile.Error}, "two"},
		{LogQuery{Services: []string{"kubelet"}}, "two"},
		{LogQuery{Services: []string{"etcd"}}, "-"},
		{LogQuery{Services: []string{"etcd"}, Some: true}, ""},
		{LogQuery{Services: []string{"etcd", "proxy", "kubelet"}, Some: true}, "two"},
		{LogQuery{Services: []string{"../../etc/passwd"}}, "-"},
		{LogQuery{Services: []string{"../../etc/passwd"}, Some: true}, "-"},
		{LogQuery{Services: []string{""}}, "-"},
		{LogQuery{Since: time.Nanosecond}, ""},
	} {
		l, err := n.Logs(c.query)
		if _, unknown := errors.AsType[*UnknownError](err); unknown {
			if c.want != "-" {
				t.Errorf("%+v: %v", c.query, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for e, err := range l.Lines() {
			if err != nil {
				t.Error(err)
			}
			words = append(words, e.Text[strings.LastIndexByte(e.Text, ' ')+1:])
		}
		if got := strings.Join(words, " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.query, got, c.want)
		}
	}
	if err := CheckLogNames([]string{"etcd", "apiserver-proxy", "kubelet", "mk"}); err != nil {
		t.Error(err)
	}
	if err := CheckLogNames([]string{"mk", "node.json"}); err == nil || slices.Contains(logsAnywhere(), "") {
		t.Errorf("no log: %v", err)
	}
}
