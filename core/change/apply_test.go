package change

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"mk8s.io/mk/sdk/changeset"
)

type (
	mkdir   = changeset.MakeFolder
	write   = changeset.WriteFile
	move    = changeset.MovePath
	remove  = changeset.RemovePath
	setArg  = changeset.SetArgument
	delArg  = changeset.RemoveArgument
	control = changeset.ControlService
	issue   = changeset.IssueCertificate
)

func file(path, content string) *write { return &write{Path: path, Content: []byte(content)} }

func TestApply(t *testing.T) {
	t.Parallel()
	old := map[string]string{
		"a": "1", "d/x": "x", "d/e/y": "y", "empty/": "", "args/kubelet": "--v=1\n# mine\n--b\n",
		"certs/server.crt": "before", "certs/mine.txt": "kept", "var/lock/no-flanneld": "",
	}
	for name, c := range map[string]struct {
		ops  []changeset.Action
		want map[string]string // changed files and their contents; "" is gone
	}{
		"write a new file":              {[]changeset.Action{file("b", "2")}, map[string]string{"b": "-rw-r--r-- 2"}},
		"write over":                    {[]changeset.Action{file("a", "2")}, map[string]string{"a": "-rw-r--r-- 2"}},
		"write nothing":                 {[]changeset.Action{&write{Path: "a"}}, map[string]string{"a": "-rw-r--r-- "}},
		"write into new folders":        {[]changeset.Action{file("n/m/b", "2")}, map[string]string{"n": "drwxr-xr-x ", "n/m": "drwxr-xr-x ", "n/m/b": "-rw-r--r-- 2"}},
		"write a secret":                {[]changeset.Action{&write{Path: "b", Content: []byte("2"), Secret: true}}, map[string]string{"b": "-rw------- 2"}},
		"a secret with a mode":          {[]changeset.Action{&write{Path: "b", Content: []byte("2"), Secret: true, Mode: 0o640}}, map[string]string{"b": "-rw------- 2"}},
		"only the mode changes":         {[]changeset.Action{&write{Path: "a", Content: []byte("1"), Mode: 0o644}}, map[string]string{"a": "-rw-r--r-- 1"}},
		"make a folder":                 {[]changeset.Action{&mkdir{Path: "n/m", Mode: 0o700}}, map[string]string{"n": "drwx------ ", "n/m": "drwx------ "}},
		"make a folder that is there":   {[]changeset.Action{&mkdir{Path: "d", Mode: 0o700}}, nil},
		"move a file":                   {[]changeset.Action{&move{From: "a", To: "n/b"}}, map[string]string{"a": "", "n": "drwxr-xr-x ", "n/b": "-rw------- 1"}},
		"move a folder and fill it":     {[]changeset.Action{&move{From: "d", To: "f"}, file("f/e/new", "2"), file("f/x", "3")}, map[string]string{"d": "", "d/x": "", "d/e": "", "d/e/y": "", "f": "drwxr-xr-x ", "f/x": "-rw-r--r-- 3", "f/e": "drwxr-xr-x ", "f/e/y": "-rw------- y", "f/e/new": "-rw-r--r-- 2"}},
		"set a folder aside":            {[]changeset.Action{&move{From: "d", To: "d.old"}, &mkdir{Path: "d", Mode: 0o700}, file("d/x", "2")}, map[string]string{"d": "drwx------ ", "d/x": "-rw-r--r-- 2", "d/e": "", "d/e/y": "", "d.old": "drwxr-xr-x ", "d.old/x": "-rw------- x", "d.old/e": "drwxr-xr-x ", "d.old/e/y": "-rw------- y"}},
		"fill a folder and move it":     {[]changeset.Action{file("d/x", "2"), &move{From: "d/e", To: "e2"}, file("e2/y", "3")}, map[string]string{"d/x": "-rw-r--r-- 2", "d/e": "", "d/e/y": "", "e2": "drwxr-xr-x ", "e2/y": "-rw-r--r-- 3"}},
		"exchange two":                  {[]changeset.Action{&move{From: "a", To: "t"}, &move{From: "d/x", To: "a"}, &move{From: "t", To: "d/x"}}, map[string]string{"a": "-rw------- x", "d/x": "-rw------- 1"}},
		"remove a file":                 {[]changeset.Action{&remove{Path: "a"}}, map[string]string{"a": ""}},
		"remove a folder":               {[]changeset.Action{&remove{Path: "d"}}, map[string]string{"d": "", "d/x": "", "d/e": "", "d/e/y": ""}},
		"remove what is not there":      {[]changeset.Action{&remove{Path: "zz"}}, nil},
		"remove and write again":        {[]changeset.Action{&remove{Path: "d"}, file("d", "2")}, map[string]string{"d": "-rw-r--r-- 2", "d/x": "", "d/e": "", "d/e/y": ""}},
		"write and remove":              {[]changeset.Action{file("b", "2"), &remove{Path: "b"}}, nil},
		"the second write counts":       {[]changeset.Action{file("a", "2"), file("a", "3")}, map[string]string{"a": "-rw-r--r-- 3"}},
		"set arguments":                 {[]changeset.Action{&setArg{Service: "kubelet", Option: "v", Value: value("2")}, &setArg{Service: "kubelet", Option: "c"}}, map[string]string{"args/kubelet": "-rw------- --v=2\n# mine\n--b\n--c\n"}},
		"remove an argument":            {[]changeset.Action{&delArg{Service: "kubelet", Option: "b"}}, map[string]string{"args/kubelet": "-rw------- --v=1\n# mine\n"}},
		"remove what is not set":        {[]changeset.Action{&delArg{Service: "etcd", Option: "b"}}, nil},
		"write a file, set an argument": {[]changeset.Action{file("args/etcd", "--a=1\n"), &setArg{Service: "etcd", Option: "a", Value: value("2")}}, map[string]string{"args/etcd": "-rw------- --a=2\n"}},
		"set an argument, write a file": {[]changeset.Action{&setArg{Service: "etcd", Option: "a", Value: value("2")}, file("args/etcd", "--a=1\n")}, map[string]string{"args/etcd": "-rw-r--r-- --a=1\n"}},
		"set and clear locks":           {[]changeset.Action{&changeset.SetLock{Name: "ha-cluster"}, &changeset.ClearLock{Name: "no-flanneld"}}, map[string]string{"var/lock/ha-cluster": "-rw-r--r-- ", "var/lock/no-flanneld": ""}},
		"a new generation of certs": {
			[]changeset.Action{&issue{Profile: "server"}, &changeset.SetTrust{Authority: "ca", Bundle: []byte("bundle")}, file("certs/sub/z", "z"), &mkdir{Path: "certs/f"}, &remove{Path: "certs/nothing"}},
			map[string]string{
				"certs": "Lrwxrwxrwx var/certs/2", "var/certs/2": "drwx------ ", "var/certs/2/server.crt": "-rw-r--r-- certificate op-1",
				"var/certs/2/server.key": "-rw------- SECRET key op-1", "var/certs/2/ca.crt": "-rw-r--r-- bundle", "var/certs/2/mine.txt": "-rw------- kept",
				"var/certs/2/sub": "drwxr-xr-x ", "var/certs/2/sub/z": "-rw-r--r-- z", "var/certs/2/f": "drwxr-xr-x ",
			},
		},
		"remove a certificate":  {[]changeset.Action{&remove{Path: "certs/server.crt"}}, map[string]string{"certs": "Lrwxrwxrwx var/certs/2", "var/certs/2": "drwx------ ", "var/certs/2/mine.txt": "-rw------- kept"}},
		"certs as they are":     {[]changeset.Action{&write{Path: "certs/mine.txt", Content: []byte("kept"), Mode: 0o600}, &mkdir{Path: "certs"}}, nil},
		"activate two plugins":  {[]changeset.Action{activation("local"), activation("other")}, map[string]string{"plugins/lock.json": "-rw------- certs local " + someDigest + "\ncerts other " + someDigest + "\n"}},
		"folder under no write": {[]changeset.Action{&mkdir{Path: "empty"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put(old)
			before := w.tree()
			want := maps.Clone(before)
			for p, v := range c.want {
				if v == "" {
					delete(want, p)
				} else {
					want[p] = v
				}
			}
			w.mustApply(1, c.ops...)
			if d := diff(want, w.tree()); d != "" {
				t.Fatalf("after apply:\n%s", d)
			}
			if err := w.engine.Undo(t.Context(), ID{1, 1}); err != nil {
				t.Fatal(err)
			}
			if d := diff(before, w.tree()); d != "" {
				t.Fatalf("after undo:\n%s", d)
			}
			w.noLeftovers()
		})
	}
}

const someDigest = "sha256:0123456789012345678901234567890123456789012345678901234567890123"

func activation(name string) changeset.Action {
	return &changeset.ActivatePlugin{Kind: "certs", Name: name, Digest: someDigest}
}

// noLeftovers finds temporary names.
func (w *world) noLeftovers() {
	w.t.Helper()
	for name := range treeOf(w.t, w.dir, true) {
		if strings.Contains(name, ".mk-") {
			w.t.Errorf("%s is left", name)
		}
	}
}

func TestRefusedPlans(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ops  []changeset.Action
		says string
	}{
		"write over a folder":    {[]changeset.Action{file("d", "2")}, "d is a folder"},
		"folder where a file is": {[]changeset.Action{&mkdir{Path: "a/b"}}, "a is in the way"},
		"write below a file":     {[]changeset.Action{file("a/b", "2")}, "a is in the way"},
		"move what is not there": {[]changeset.Action{&move{From: "zz", To: "b"}}, "not there"},
		"move onto something":    {[]changeset.Action{&move{From: "a", To: "d"}}, "there already"},
		"move into itself":       {[]changeset.Action{&move{From: "d", To: "d/e/f"}}, "inside"},
		"move what was moved":    {[]changeset.Action{&move{From: "a", To: "b"}, &move{From: "a", To: "c"}}, "not there"},
		"move what it makes":     {[]changeset.Action{file("n/b", "2"), &move{From: "n", To: "m"}}, "the same change makes it"},
		"remove what it makes":   {[]changeset.Action{&mkdir{Path: "n"}, &remove{Path: "n"}}, "the same change makes it"},
		"move in certs":          {[]changeset.Action{&move{From: "certs/server.crt", To: "b"}}, "as a whole"},
		"remove certs":           {[]changeset.Action{&remove{Path: "certs"}}, "certs is a link"},
		"write a generation":     {[]changeset.Action{file("var/certs/1/x", "2")}, "generation of certs"},
		"arguments of nobody":    {[]changeset.Action{&setArg{Service: "no.such", Option: "a"}}, "arguments"},
		"no certificate":         {[]changeset.Action{file("b", "2"), &issue{Profile: "refused"}}, "refused"},
		"not a ChangeSet":        {[]changeset.Action{file("../b", "2")}, "path"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put(map[string]string{"a": "1", "d/e/x": "x", "certs/server.crt": "c"})
			before := treeOf(t, w.dir, true)
			err := w.apply(1, c.ops...)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
			after := treeOf(t, w.dir, true)
			delete(after, "var/lock/apply")
			if d := diff(before, after); d != "" {
				t.Errorf("changed:\n%s", d)
			}
		})
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		action  changeset.Action
		expects string
		stale   bool
	}{
		"as seen":              {file("a", "2"), changeset.DigestOf([]byte("1")), false},
		"another content":      {file("a", "2"), changeset.DigestOf([]byte("0")), true},
		"absent, but there":    {file("a", "2"), changeset.Absent, true},
		"absent":               {file("b", "2"), changeset.Absent, false},
		"gone":                 {&remove{Path: "b"}, changeset.DigestOf([]byte("0")), true},
		"arguments":            {&setArg{Service: "etcd", Option: "a"}, changeset.Absent, false},
		"arguments were there": {&setArg{Service: "kubelet", Option: "a"}, changeset.Absent, true},
		"in certs":             {file("certs/c", "2"), changeset.DigestOf([]byte("0")), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put(map[string]string{"a": "1", "args/kubelet": "--x\n", "certs/c": "1"})
			before := w.tree()
			cs := plain(file("first", "1"), c.action)
			cs.Operations[1].Expects = c.expects
			err := w.applySet(1, cs)
			if errors.Is(err, ErrStale) != c.stale || (err != nil) != c.stale {
				t.Fatalf("%v, stale should be %v", err, c.stale)
			}
			if d := diff(before, w.tree()); c.stale && d != "" {
				t.Errorf("changed:\n%s", d)
			}
		})
	}
}

func TestServicesRestartOnceAndLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.services.up = map[string]bool{"kubelite": true, "etcd": true, "cluster-agent": true}
	restart := func(s string) changeset.Action { return &control{Service: s, Action: changeset.Restart} }
	w.mustApply(1,
		restart("cluster-agent"), restart("kubelite"), &setArg{Service: "etcd", Option: "a"},
		&control{Service: "etcd", Action: changeset.Stop}, restart("kubelite"), file("b", "1"),
		&control{Service: "etcd", Action: changeset.Start}, &control{Service: "etcd", Action: changeset.Enable}, restart("kubelite"))
	want := []string{"stop etcd", "start etcd", "boot true etcd", "restart kubelite", "restart cluster-agent"}
	if !slices.Equal(w.services.calls, want) {
		t.Errorf("%q, not %q", w.services.calls, want)
	}
}

// A service that starts finds the arguments that were set before it.
func TestStartFindsArguments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustApply(1, &setArg{Service: "etcd", Option: "a"}, &control{Service: "etcd", Action: changeset.Start},
		&setArg{Service: "etcd", Option: "b"})
	h, err := w.engine.loadJournal(ID{1, 1})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, en := range h.entries {
		order = append(order, en.Kind)
	}
	if want := []string{kindReplace, kindService, kindReplace}; !slices.Equal(order, want) {
		t.Errorf("%q, not %q", order, want)
	}
}

func TestObjectsComeAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cs := plain(
		&changeset.Wait{Service: "etcd"},
		&changeset.ApplyManifests{Inventory: "dns", Manifests: []byte("x")},
		&setArg{Service: "kubelet", Option: "a"},
		&setArg{Service: "kubelet", Option: "b"},
		&changeset.DeleteManifests{Inventory: "old"},
		&changeset.ChangeMember{Action: changeset.AddLearner, PeerAddress: "https://10.0.0.1:2380"},
	)
	cs.Operations[2].Scope, cs.Operations[3].Scope = changeset.ScopeCluster, changeset.ScopeCluster
	if err := w.applySet(1, cs); err != nil {
		t.Fatal(err)
	}
	want := []string{"apply dns", "delete old", "member https://10.0.0.1:2380", "want 2", "wait etcd"}
	if !slices.Equal(w.objects.calls, want) {
		t.Errorf("%q, not %q", w.objects.calls, want)
	}
	if h, err := w.engine.loadJournal(ID{1, 1}); err != nil || h.last != recordEnd {
		t.Errorf("%v %v", h, err)
	}
}

// What is done on the node stays when objects fail; applying again does the rest.
func TestObjectsFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.objects.fail = errors.New("no API server")
	ops := []changeset.Action{file("b", "1"), &changeset.ApplyManifests{Inventory: "dns", Manifests: []byte("x")}}
	if err := w.apply(1, ops...); !errors.Is(err, w.objects.fail) {
		t.Fatal(err)
	}
	w.objects.fail = nil
	w.mustApply(2, ops...)
	if got := w.tree()["b"]; got != "-rw-r--r-- 1" {
		t.Error(got)
	}
}

func TestOwnersRestored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(map[string]string{"args/kubelet": "--dns=1.1.1.1\n"})
	w.mustApply(1, &setArg{Service: "kubelet", Option: "dns", Value: value("2.2.2.2"), Owner: "addons/core/dns"},
		&setArg{Service: "kubelet", Option: "new", Value: value("x"), Owner: "addons/core/dns"})
	if got := w.tree()["args/kubelet"]; got != "-rw------- --dns=2.2.2.2\n--new=x\n" {
		t.Fatal(got)
	}
	w.mustApply(2, &delArg{Service: "kubelet", Option: "dns", Owner: "addons/core/dns"},
		&delArg{Service: "kubelet", Option: "new", Owner: "addons/core/dns"})
	if got := w.tree()["args/kubelet"]; got != "-rw------- --dns=1.1.1.1\n" {
		t.Error(got)
	}
}
