package membership

import (
	"errors"
	"testing"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/sdk/plugin"
)

func TestParseTaint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]kube.Taint{
		"edge=yes:NoSchedule":    {Key: "edge", Value: "yes", Effect: "NoSchedule"},
		"a.b/c:NoExecute":        {Key: "a.b/c", Effect: "NoExecute"},
		"edge=:PreferNoSchedule": {Key: "edge", Effect: "PreferNoSchedule"},
	} {
		if got, err := ParseTaint(text); err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "edge", "edge=yes", ":NoSchedule", "=yes:NoSchedule", "edge=yes:Never", "edge=yes:noschedule"} {
		if got, err := ParseTaint(text); !errors.Is(err, plugin.BadArgument) {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
}

func FuzzTaint(f *testing.F) {
	f.Add("edge=yes:NoSchedule")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseTaint(text); err == nil && (got.Key == "" || got.Effect == "") {
			t.Fatalf("%q: %+v", text, got)
		}
	})
}
