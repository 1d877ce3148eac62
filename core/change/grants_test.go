package change

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		glob, name string
		want       bool
	}{
		{"a", "a", true},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"a/*", "a/b", true},
		{"a/*", "a/b/c", false},
		{"*", "a/b", false},
		{"a/*.yaml", "a/x.yaml", true},
		{"a/**", "a", true},
		{"a/**", "a/b/c", true},
		{"a/**", "ab", false},
		{"**/c", "a/b/c", true},
		{"**/c", "a/b/d", false},
		{"a/**/c", "a/c", true},
		{"a/**/c", "a/b/b/c", true},
		{"a/**/c/**", "a/b/c/d", true},
		{"a/**/b/*/c", "a/b/x/b/y/c", true},
		{"**", "a/b", true},
		{"[", "[", false},
		{"a/[", "b/x", false},
		{"", "", true},
		{"etcd/*", "etcd/name", true},
		{"etcd/*", "etcd2/name", false},
		{"a/../b", "b", false},
	} {
		if got := Match(c.glob, c.name); got != c.want {
			t.Errorf("Match(%q, %q) is %v", c.glob, c.name, got)
		}
	}
}

// A manifest cannot keep the core busy.
func TestMatchIsFast(t *testing.T) {
	t.Parallel()
	began := time.Now()
	if Match(strings.Repeat("**/a/", 200)+"b", strings.Repeat("a/", 2000)+"c") {
		t.Error("it matches")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	all := plugin.Grants{
		FilesWrite: []string{"**"}, Services: []string{"*"}, Arguments: []string{"*/*"}, Certificates: []string{"*"},
		Locks: []string{"*"}, Trust: []string{"*"}, Members: true, Objects: []plugin.ObjectGrant{{Kinds: []string{"*"}}},
	}
	member := &changeset.ChangeMember{Action: changeset.Promote, PeerAddress: "https://10.0.0.1:2380"}
	manifests := &changeset.ApplyManifests{Inventory: "i", Manifests: []byte("x")}
	for name, c := range map[string]struct {
		action changeset.Action
		grants plugin.Grants
		never  bool // not even all grants are enough
	}{
		"file":            {file("d/a", ""), plugin.Grants{FilesWrite: []string{"d/*"}}, false},
		"folder":          {&mkdir{Path: "d"}, plugin.Grants{FilesWrite: []string{"d"}}, false},
		"move":            {&move{From: "d/a", To: "e"}, plugin.Grants{FilesWrite: []string{"d/*", "e"}}, false},
		"remove":          {&remove{Path: "d"}, plugin.Grants{FilesWrite: []string{"d"}}, false},
		"set argument":    {&setArg{Service: "etcd", Option: "name"}, plugin.Grants{Arguments: []string{"etcd/name"}}, false},
		"remove argument": {&delArg{Service: "etcd", Option: "name"}, plugin.Grants{Arguments: []string{"etcd/*"}}, false},
		"set lock":        {&changeset.SetLock{Name: "no-x"}, plugin.Grants{Locks: []string{"no-*"}}, false},
		"clear lock":      {&changeset.ClearLock{Name: "no-x"}, plugin.Grants{Locks: []string{"no-x"}}, false},
		"service":         {&control{Service: "etcd", Action: changeset.Restart}, plugin.Grants{Services: []string{"etcd"}}, false},
		"certificate":     {&issue{Profile: "datastore"}, plugin.Grants{Certificates: []string{"datastore"}}, false},
		"trust":           {&changeset.SetTrust{Authority: "datastore", Bundle: []byte("x")}, plugin.Grants{Trust: []string{"datastore"}}, false},
		"member":          {member, plugin.Grants{Members: true}, false},
		"manifests":       {manifests, plugin.Grants{Objects: []plugin.ObjectGrant{{Kinds: []string{"ConfigMap"}}}}, false},
		"delete":          {&changeset.DeleteManifests{Inventory: "i"}, plugin.Grants{Objects: []plugin.ObjectGrant{{Kinds: []string{"ConfigMap"}}}}, false},

		"a plugin's folder":      {file("plugins/lock.json", ""), all, true},
		"the journal":            {file("var/journal/1/1.log", ""), all, true},
		"what holds the journal": {&remove{Path: "var"}, all, true},
		"moving what holds it":   {&move{From: "var", To: "w"}, all, true},
		"moving onto it":         {&move{From: "a", To: "plugins"}, all, true},
		"the record":             {file("node.json", ""), all, true},
		"the settings":           {file("settings.yaml", ""), all, true},
		"a lock as a file":       {file("var/lock/x", ""), all, true},
		"a generation":           {file("var/certs/1/x", ""), all, true},
		"all certificates":       {&remove{Path: "certs"}, all, true},
		"owners of arguments":    {file("args/.owners.json", ""), all, true},
		"all arguments":          {&remove{Path: "args"}, all, true},
		"a temporary name":       {file("a/.mk-staged-1.1-0", ""), all, true},
		"in a temporary folder":  {file(".mk-old-1.1-0/x", ""), all, true},
		"another plugin":         {activation("local"), all, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var refusal *Refusal
			if err := Check(plain(c.action), plugin.Grants{}, nil); !errors.As(err, &refusal) {
				t.Errorf("without a grant: %v", err)
			}
			err := Check(plain(c.action), c.grants, nil)
			if !c.never && err != nil {
				t.Errorf("with its grant: %v", err)
			}
			if c.never && (!errors.As(err, &refusal) || !strings.Contains(err.Error(), "never")) {
				t.Errorf("with all grants: %v", err)
			}
		})
	}
	if err := Check(plain(&changeset.Wait{Service: "etcd"}), plugin.Grants{}, nil); err != nil {
		t.Errorf("waiting needs a grant: %v", err)
	}
	judged := errors.New("judged")
	if err := Check(plain(manifests), all, func([]byte, []plugin.ObjectGrant) error { return judged }); !errors.Is(err, judged) {
		t.Errorf("objects were not judged: %v", err)
	}
}
