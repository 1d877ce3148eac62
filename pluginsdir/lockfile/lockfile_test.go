package lockfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/pluginsdir/problem"
	"mk8s.io/mk/sdk/plugin"
)

func at(n int) time.Time { return time.Date(2026, 11, n, 1, 2, 3, 0, time.UTC) }

func digest(s string) string {
	return "sha256:" + strings.Repeat("0", 64-len(fmt.Sprintf("%x", s))) + fmt.Sprintf("%x", s)
}

func installed(kind, name, version string) Installed {
	id := plugin.Identity{Kind: kind, Name: name, Version: version}
	return Installed{
		Identity: id, Digest: digest(kind + name + version), Manifest: digest("m"),
		Contracts: []string{plugin.Contract(kind)}, Class: manifest.Contained, Source: "folder:/x", By: "lin", At: at(1),
		Programs: []manifest.Platform{{OS: "linux", Arch: "amd64", Bin: "bin/x", SHA256: strings.Repeat("a", 64)}},
		Consent:  Consent{By: "lin", At: at(1)},
	}
}

func with(t *testing.T, list ...Installed) *Lock {
	t.Helper()
	l := New()
	for _, i := range list {
		n, err := PlanInstall(l, i, "/root", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		l = n
	}
	return l
}

func sample(t *testing.T) *Lock {
	t.Helper()
	l := with(t, installed("certs", "local", "1.0.0"), installed("certs", "vault", "1.9.0"), installed("certs", "vault", "1.10.0"),
		installed("certs", "vault", "2.0.0-rc.1"), installed("tokens", "file", "1.0.0"), installed("addons", "core", "1.0.0"))
	for _, id := range []string{"certs/local", "tokens/file", "addons/core"} {
		l = activate(t, l, id, "", 2)
	}
	return l
}

func activate(t *testing.T, l *Lock, id, authority string, day int) *Lock {
	t.Helper()
	kind, name, constraint, err := SplitName(id)
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := PlanActivate(l, Activation{Kind: kind, Name: name, Constraint: constraint, Authority: authority, By: "lin", At: at(day)})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestBytesAreReadBackAndTheSame(t *testing.T) {
	t.Parallel()
	l := activate(t, sample(t), "certs/vault@~1.9", "kubernetes", 3)
	data := l.Bytes()
	if _, ok := parseOwn(data); !ok {
		t.Error("our own bytes are not recognized")
	}
	for name, parse := range map[string]func([]byte, string) (*Lock, error){"fast": Parse, "strict": parseStrict} {
		again, err := parse(data, "lock.json")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(again.Bytes(), data) {
			t.Errorf("%s: reads something else", name)
		}
	}
	empty, err := Parse(New().Bytes(), "lock.json")
	if err != nil || len(empty.Installed) != 0 {
		t.Errorf("an empty lock: %v", err)
	}
}

func TestParseNamesFaults(t *testing.T) {
	t.Parallel()
	data := string(sample(t).Bytes())
	for name, c := range map[string]struct{ old, new, want string }{
		"schema":        {`"schema": 1`, `"schema": 7`, "f:2: schema: is 7, this mk reads 1"},
		"unknown field": {`"schema": 1`, `"schema": 1, "extra": 2`, "f:2: extra: unknown field"},
		"case":          {`"schema": 1`, `"Schema": 1`, "f:2: Schema: unknown field"},
		"twice":         {`"schema": 1`, `"schema": 1, "schema": 1`, "f:2: schema: is there twice"},
		"user":          {`"tokens/file": 62`, `"tokens/file": 9`, "must be between 62000 and 62999"},
		"class":         {`"contained"`, `"harmless"`, "class \"harmless\" is unknown"},
		"digest":        {`"digest": "sha256:`, `"digest": "md5:`, "digest and manifest must be"},
		"version":       {`"version": "1.0.0"`, `"version": "1.0"`, "\"1.0\" is no version"},
		"authority":     {`"authority": "datastore"`, `"authority": "x"`, "authority \"x\" is unknown"},
		"time":          {`"since": "2026-`, `"since": "x-`, "must be a time"},
		"name":          {`"name": "core"`, `"name": "../core"`, "is no kind/name"},
		"cut off":       {"}\n", "", "f:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(data, c.old) {
				t.Fatalf("%q is not in the file", c.old)
			}
			i := strings.Index(data, c.old)
			if c.new == "" {
				i = strings.LastIndex(data, c.old)
			}
			_, err := Parse([]byte(data[:i]+c.new+data[i+len(c.old):]), "f")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	l := sample(t)
	for constraint, want := range map[string]string{
		"": "1.10.0", "~1.9": "1.9.0", "1.x": "1.10.0", "2.0.0-rc.1": "2.0.0-rc.1", ">=1, <1.10": "1.9.0",
	} {
		got, err := l.Resolve("certs", "vault", constraint)
		if err != nil || got.Version != want {
			t.Errorf("%q: %s, want %s (%v)", constraint, got.Version, want, err)
		}
	}
	for constraint, want := range map[string]string{
		"3": "no installed version of certs/vault fits 3: installed are 2.0.0-rc.1, 1.10.0, 1.9.0", "new!": "is no version",
	} {
		if _, err := l.Resolve("certs", "vault", constraint); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", constraint, err)
		}
	}
	if _, err := l.Resolve("certs", "none", ""); err == nil || !strings.Contains(err.Error(), "installed are certs/local, certs/vault") {
		t.Errorf("got %v", err)
	}
}

func active(l *Lock, kind, authority string) string {
	i, _ := l.ActiveFor(kind, authority)
	return i.Name + " " + i.Version
}

func TestActivateAndRollBack(t *testing.T) {
	t.Parallel()
	l := sample(t)
	before := l.Bytes()
	one := activate(t, l, "certs/vault@~1.9", "kubernetes", 3)
	if !bytes.Equal(before, l.Bytes()) {
		t.Error("planning changed the lock it was given")
	}
	if active(one, "certs", "kubernetes") != "vault 1.9.0" || active(one, "certs", "datastore") != "local 1.0.0" {
		t.Errorf("active: %s, %s", active(one, "certs", "kubernetes"), active(one, "certs", "datastore"))
	}
	two, flips, err := PlanActivate(one, Activation{Kind: "certs", Name: "vault", By: "lin", At: at(4)})
	if err != nil || len(flips) != 3 {
		t.Fatalf("%d flips, %v", len(flips), err)
	}
	if _, flips, _ = PlanActivate(two, Activation{Kind: "certs", Name: "vault", By: "lin", At: at(5)}); len(flips) != 0 {
		t.Errorf("active already, but %d flips", len(flips))
	}
	back, flips, err := PlanRollback(two, "certs", "vault", "lin", at(6))
	if err != nil || len(flips) != 3 {
		t.Fatalf("%d flips, %v", len(flips), err)
	}
	if active(back, "certs", "kubernetes") != "vault 1.9.0" || active(back, "certs", "datastore") != "local 1.0.0" {
		t.Errorf("active: %s, %s", active(back, "certs", "kubernetes"), active(back, "certs", "datastore"))
	}
	further, flips, err := PlanRollback(back, "certs", "vault", "lin", at(7))
	if err != nil || len(flips) != 1 || active(further, "certs", "kubernetes") != "local 1.0.0" {
		t.Errorf("%d flips, %v, %s", len(flips), err, active(further, "certs", "kubernetes"))
	}
	if _, _, err := PlanRollback(further, "certs", "vault", "lin", at(8)); err == nil || !strings.Contains(err.Error(), "is not active") {
		t.Errorf("got %v", err)
	}
	if _, _, err := PlanRollback(further, "tokens", "file", "lin", at(8)); err == nil || !strings.Contains(err.Error(), "cannot be rolled back") {
		t.Errorf("got %v", err)
	}
}

func TestActivateByDigestIsWhatThePlanSaid(t *testing.T) {
	t.Parallel()
	l := sample(t)
	n, flips, err := PlanActivate(l, Activation{Kind: "certs", Name: "vault", Authority: "kubernetes", By: "lin", At: at(3)})
	if err != nil {
		t.Fatal(err)
	}
	f := flips[0]
	direct, err := l.Activate(f.Kind, f.To.Name, f.To.Digest, f.Authority, "lin", at(3))
	if err != nil || !bytes.Equal(direct.Bytes(), n.Bytes()) {
		t.Errorf("differs: %v", err)
	}
	if _, err := l.Activate("certs", "vault", digest("else"), "kubernetes", "lin", at(3)); !errors.Is(err, problem.ErrRefused) {
		t.Errorf("unknown digest: %v", err)
	}
	if _, err := l.Activate("tokens", "vault", f.To.Digest, "", "lin", at(3)); !errors.Is(err, problem.ErrRefused) {
		t.Errorf("another plugin's digest: %v", err)
	}
	if _, err := l.Activate("certs", "vault", f.To.Digest, "etcd", "lin", at(3)); err == nil {
		t.Error("unknown authority accepted")
	}
}

func TestManyAddonsAreActiveAndCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	l, err := PlanInstall(sample(t), installed("addons", "repo", "1.0.0"), "/root", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	l = activate(t, l, "addons/repo", "", 3)
	if n := len(l.ActiveOf("addons")); n != 2 {
		t.Errorf("%d active", n)
	}
	l, err = PlanDeactivate(l, "addons", "core")
	if err != nil || len(l.ActiveOf("addons")) != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := PlanDeactivate(l, "tokens", "file"); err == nil {
		t.Error("a node without tokens plugin")
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	l := activate(t, activate(t, sample(t), "certs/vault@1.9.0", "kubernetes", 3), "certs/vault@1.10.0", "kubernetes", 4)
	for want, constraint := range map[string]string{"it is active for kubernetes": "1.10.0", "join (118) is not finished": "1.9.0"} {
		_, _, err := PlanRemove(l, "certs", "vault", constraint, []Pin{{Digest: digest("certsvault1.9.0"), Operation: "join (118)"}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", constraint, err)
		}
	}
	if _, _, err := PlanRemove(l, "certs", "vault", "", nil); err == nil {
		t.Error("removed all, the active one too")
	}
	n, gone, err := PlanRemove(l, "certs", "vault", "1.9.0", nil)
	if err != nil || len(gone) != 1 || len(n.Versions("certs", "vault")) != 2 {
		t.Fatalf("%v, %v", gone, err)
	}
	if _, ok := n.User("certs", "vault"); !ok {
		t.Error("the uid was given back")
	}
	// Rollback passes over what was removed.
	back, _, err := PlanRollback(n, "certs", "vault", "lin", at(5))
	if err != nil || active(back, "certs", "kubernetes") != "local 1.0.0" {
		t.Errorf("%v, %s", err, active(back, "certs", "kubernetes"))
	}
	if _, err := Parse(n.Bytes(), "f"); err != nil {
		t.Error(err)
	}
}

func TestInstallOfAnotherContentUnderTheSameVersion(t *testing.T) {
	t.Parallel()
	l := sample(t)
	other := installed("certs", "vault", "1.9.0")
	other.Digest = digest("other")
	if _, err := PlanInstall(l, other, "/", false, nil); !errors.Is(err, problem.ErrRefused) {
		t.Errorf("got %v", err)
	}
	n, err := PlanInstall(l, other, "/", true, nil)
	if err != nil || len(n.Versions("certs", "vault")) != 3 {
		t.Errorf("got %v", err)
	}
	other = installed("certs", "local", "1.0.0")
	other.Digest = digest("other")
	if _, err := PlanInstall(l, other, "/", true, nil); err == nil || !strings.Contains(err.Error(), "it is active") {
		t.Errorf("got %v", err)
	}
	n, err = PlanRebuilt(l, other)
	if err != nil || active(n, "certs", "datastore") != "local 1.0.0" {
		t.Errorf("got %v", err)
	}
	if _, err := Parse(n.Bytes(), "f"); err != nil {
		t.Error(err)
	}
}

func TestUsersAreStableAndUniqueUntilThereAreNone(t *testing.T) {
	t.Parallel()
	l := New().clone()
	for i := range LastUser - FirstUser + 1 {
		if err := l.giveUser(fmt.Sprintf("certs/p%d", i), "/root"); err != nil {
			t.Fatal(err)
		}
	}
	before := l.Users["certs/p7"]
	if err := l.giveUser("certs/p7", "/elsewhere"); err != nil || l.Users["certs/p7"] != before {
		t.Errorf("changed: %v", err)
	}
	if err := l.giveUser("certs/more", "/root"); err == nil || !strings.Contains(err.Error(), "62000 to 62999 are given out") {
		t.Errorf("got %v", err)
	}
	if f := faults(l); len(f) > 0 {
		t.Errorf("faults: %v", f)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(New().Bytes())
	i := installed("certs", "x", "1.0.0")
	l, err := PlanInstall(New(), i, "", false, nil)
	if err != nil {
		f.Fatal(err)
	}
	l, err = l.Activate("certs", "x", i.Digest, "kubernetes", "", at(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(data, "f")
		if err != nil {
			return
		}
		again, err := Parse(l.Bytes(), "again")
		if err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
		if !bytes.Equal(again.Bytes(), l.Bytes()) {
			t.Error("writes something else")
		}
	})
}
