package operation

import (
	"testing"

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
