package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/plugin"
)

func TestShowPlugin(t *testing.T) {
	t.Parallel()
	d := &pluginsdir.Details{
		Listed: pluginsdir.Listed{
			Installed: lockfile.Installed{Identity: plugin.Identity{Kind: "certs", Name: "local", Version: "1.2.0", Publisher: "mk"}, Digest: "sha256:aa", Contracts: []string{"mk.certs.v1"}, Class: manifest.RootEquivalent},
			Active:    true, For: []string{"kubernetes", "datastore"},
		},
		Content: &manifest.Manifest{Settings: json.RawMessage(`{"properties":{"lifetime":{"type":"string","description":"the longest life"},"b":{"type":["string","null"]}}}`)},
		Reasons: []string{"it signs certificates"}, Others: []string{"1.1.0"},
		History: []pluginsdir.Event{{Action: "install", Version: "1.2.0", By: "lin", State: "done"}, {Action: "use", Version: "1.2.0", By: "lin", State: "failed", Why: "no room"}},
	}
	for _, grants := range [][]string{nil, {"reads files: a", "runs programs on the host"}} {
		d.May = grants
		var out bytes.Buffer
		if err := showPlugin(&out, d); err != nil {
			t.Fatal(err)
		}
		words := strings.Join(strings.Fields(out.String()), " ")
		want := []string{"plugin certs/local 1.2.0", "active kubernetes,datastore", "why it signs certificates", "settings b ([string null]) lifetime (string): the longest life", "use 1.2.0 by lin: failed no room", "may answer questions, and nothing else"}
		if grants != nil {
			want[len(want)-1] = "may reads files: a runs programs on the host"
		}
		for _, w := range want {
			if !strings.Contains(words, w) {
				t.Errorf("no %q in\n%s", w, out.String())
			}
		}
		for line := range strings.Lines(out.String()) {
			if strings.TrimRight(line, " \n")+"\n" != line {
				t.Errorf("%q ends in blanks", line)
			}
		}
	}
}
