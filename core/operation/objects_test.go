package operation

import (
	"strings"
	"testing"

	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// TestPluginsOwnTheirInventories: whatever name a plugin says, it is one of its
// own, and what it answered stays as it was.
func TestPluginsOwnTheirInventories(t *testing.T) {
	t.Parallel()
	answer := changeset.Build()
	answer.ApplyManifests("dns", []byte("kind: List"))
	answer.DeleteManifests("mk-system")
	answer.DeleteManifests("addons-core.dns")
	answer.SetLock("no-dns")
	cs := answer.ChangeSet()
	seen := map[string]bool{}
	for _, by := range []plugin.Identity{{Kind: "addons", Name: "core"}, {Kind: "addons", Name: "other"}, {Kind: "clustering", Name: "core"}} {
		got := ownInventories(cs, by)
		if err := got.Validate(); err != nil {
			t.Error(err)
		}
		own := by.Kind + "-" + by.Name + "."
		for i, want := range []string{own + "dns", own + "mk-system", own + "addons-core.dns", "no-dns"} {
			if target := got.Operations[i].Target(); target != want {
				t.Errorf("%s: %s, not %s", by, target, want)
			}
			if seen[want] && want != "no-dns" {
				t.Errorf("two plugins share %s", want)
			}
			seen[want] = true
		}
	}
	if got := cs.Operations[1].Target(); got != "mk-system" {
		t.Errorf("the answer was changed: %s", got)
	}
}

// TestContainedPluginsStayContained: a grant names a kind; what is in an object
// of it decides whether a contained plugin may apply it.
func TestContainedPluginsStayContained(t *testing.T) {
	t.Parallel()
	grants := []plugin.ObjectGrant{{Group: "apps", Kinds: []string{"Deployment"}, Namespaces: []string{"default"}}}
	deployment := func(pod string) []byte {
		return []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: default}\nspec:\n  selector: {matchLabels: {a: b}}\n" +
			"  template:\n    metadata: {labels: {a: b}}\n    spec: " + pod + "\n")
	}
	plain := deployment("{containers: [{name: a, image: a}]}")
	host := deployment("{containers: [{name: a, image: a}], hostPID: true, volumes: [{name: h, hostPath: {path: /}}]}")
	class, _ := manifest.Classify(plugin.KindAddons, plugin.Grants{Objects: grants})
	if class != manifest.Contained {
		t.Fatalf("the class is %s", class)
	}
	if err := checkObjects(plain, grants, class); err != nil {
		t.Error(err)
	}
	if err := checkObjects(host, grants, class); err == nil || !strings.Contains(err.Error(), "Deployment") || !strings.Contains(err.Error(), "host") {
		t.Errorf("a pod that mounts the host: %v", err)
	}
	if err := checkObjects(host, grants, manifest.RootEquivalent); err != nil {
		t.Errorf("who was agreed to be root: %v", err)
	}
}
