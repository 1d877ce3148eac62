package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestArrange(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"mk", "mk"},
		{"mk status", "mk status"},
		{"mk -o json status", "mk status -o json"},
		{"mk status -o json", "mk status -o json"},
		{"mk --root /x certs renew server --dry-run", "mk certs renew --root /x --dry-run server"},
		{"mk certs renew server ca --dry-run", "mk certs renew --dry-run server ca"},
		{"mk certs --root=/x renew server", "mk certs renew --root=/x server"},
		{"mk enable dns --set a=b storage", "mk enable --set a=b dns storage"},
		{"mk logs kubelite --since 5m -f", "mk logs --since 5m -f kubelite"},
		{"mk args set kubelet -- --max-pods=3 -v", "mk args set kubelet -- --max-pods=3 -v"},
		{"mk kubectl get pods -o json", "mk kubectl get pods -o json"},
		{"mk --root /x kubectl -n a get pods --root y", "mk --root /x kubectl -n a get pods --root y"},
		{"mk bogus status", "mk bogus status"},
		{"mk status --bogus x", "mk status --bogus x"},
		{"mk --timeout", "mk --timeout"},
		{"mk images import -", "mk images import -"},
	} {
		s, _, _ := testSession(t, "pretty")
		if got := strings.Join(arrange(newApp(s), strings.Fields(c.in)), " "); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.in, got, c.want)
		}
	}
}

func TestOutputOf(t *testing.T) {
	for words, want := range map[string]string{
		"mk":                                   "pretty",
		"mk status -o json":                    "json",
		"mk status --bogus -o json":            "json",
		"mk status --output=yaml":              "yaml",
		"mk --format short status":             "short",
		"mk status -o xml":                     "pretty",
		"mk status -o":                         "pretty",
		"mk kubectl get pods -o json":          "pretty",
		"mk -o json kubectl get pods -o yaml":  "json",
		"mk args set kubelet -- -o json":       "pretty",
		"mk status --root -o json":             "pretty",
		"mk -o json status -o yaml --bogus=-o": "yaml",
	} {
		s, _, _ := testSession(t, "pretty")
		app := newApp(s)
		if got := outputOf(app, arrange(app, strings.Fields(words)), "pretty"); got != want {
			t.Errorf("%s: %s, want %s", words, got, want)
		}
	}
}

// FuzzArrange: words change their places and nothing else; what is passed
// through keeps its order; arranged words stay as they are.
func FuzzArrange(f *testing.F) {
	for _, seed := range []string{"status -o json", "--root x kubectl get -o yaml", "certs renew a --dry-run -- -x", "-", "--", "-=", "--set"} {
		f.Add(seed)
	}
	s := newSession(nil, strings.NewReader(""), io.Discard, io.Discard, func(string) string { return "" })
	app := newApp(s)
	f.Fuzz(func(t *testing.T, text string) {
		words := append([]string{"mk"}, strings.Fields(text)...)
		before := slices.Clone(words)
		got := arrange(app, words)
		if !slices.Equal(words, before) {
			t.Fatalf("%q became %q: the words of the caller were changed", before, words)
		}
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(words))) {
			t.Fatalf("%q: %q holds other words", words, got)
		}
		if i := slices.Index(words, "kubectl"); i == 1 && !slices.Equal(got, words) {
			t.Fatalf("%q: %q: kubectl's words were moved", words, got)
		}
		if out := outputOf(app, got, "pretty"); !slices.Contains(outputs(), out) {
			t.Fatalf("%q: output %q", words, out)
		}
	})
}

func TestLevels(t *testing.T) {
	for word, want := range map[string]int{"info": 0, "warning": 1, "error": 2} {
		if l, err := levelOf(word); err != nil || int(l) != want {
			t.Errorf("--level %s: %v, %v", word, l, err)
		}
	}
	if _, err := levelOf("loud"); err == nil {
		t.Error("a level that does not exist")
	}
}
