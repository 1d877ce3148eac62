package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"status", "status", 0},
		{"stauts", "status", 1}, // swapped
		{"statsu", "status", 1},
		{"statu", "status", 1},
		{"statuss", "status", 1},
		{"stakus", "status", 1},
		{"tsatsu", "status", 2},
		{"ca", "abc", 3}, // a swapped pair stays as it is
		{"kitten", "sitting", 3},
		{"größe", "grösse", 2},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance(c.b, c.a); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.b, c.a, got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"start", "stop", "status", "doctor", "config", "logs", "ctr"}
	for word, want := range map[string]string{
		"stauts":                  "status",
		"satrt":                   "start",
		"stp":                     "stop",
		"docter":                  "doctor",
		"log":                     "logs",
		"crt":                     "ctr",
		"":                        "",
		"x":                       "",
		"banana":                  "",
		strings.Repeat("s", 5000): "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("%.20q: %q, want %q", word, got, want)
		}
	}
}

func TestFlagProblem(t *testing.T) {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "wait-ready", Aliases: []string{"w"}}, &cli.StringFlag{Name: "root"}, &cli.DurationFlag{Name: "timeout", Aliases: []string{"t"}},
	}
	for _, c := range []struct{ text, message, why, next string }{
		{"flag provided but not defined: -wait-raedy", "there is no flag --wait-raedy in mk status", "", "mk status --wait-ready"},
		{"flag provided but not defined: -z", "there is no flag -z in mk status", "", "mk status --help"},
		{"flag provided but not defined: -banana", "there is no flag --banana in mk status", "", "mk status --help"},
		{"flag needs an argument: -root", "--root needs a value", "", "mk status --help"},
		{"flag needs an argument: --root", "--root needs a value", "", "mk status --help"},
		{`invalid value "5x" for flag -timeout: parse error`, `--timeout cannot be "5x"`, "parse error", "mk status --help"},
		{`invalid boolean value "maybe" for -w: parse error`, `-w cannot be "maybe"`, "parse error", "mk status --help"},
		{"something else", "something else", "", "mk status --help"},
	} {
		p := flagProblem("mk status", flags, c.text)
		if p.Message != c.message || p.Why != c.why || p.Next[0] != c.next || p.exit != exitUsage {
			t.Errorf("%q: %+v", c.text, p)
		}
	}
}

// What the flag package says is known by its text: these are its real words.
func TestFlagProblemsOfTheParser(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"status", "--wait-raedy"}, "there is no flag --wait-raedy in mk status"},
		{[]string{"--ouptut", "json"}, "there is no flag --ouptut in mk"},
		{[]string{"certs", "list", "--ouptut", "json"}, "there is no flag --ouptut in mk certs list"},
		{[]string{"status", "--timeout", "5x"}, `--timeout cannot be "5x"`},
		{[]string{"status", "--root"}, "--root needs a value"},
		{[]string{"status", "-v=maybe"}, `-v cannot be "maybe"`},
		{[]string{"stauts"}, `there is no "stauts" in mk`},
		{[]string{"certs", "lsit"}, `there is no "lsit" in mk certs`},
		{[]string{"status", "-o", "xml"}, `--output "xml" is not one of pretty, short, json, yaml`},
	} {
		s, _, _ := testSession(t, "pretty")
		app := newApp(s)
		err := app.RunContext(t.Context(), arrange(app, append([]string{"mk"}, c.words...)))
		p := explain(t.Context(), err)
		if err == nil || p.Message != c.want || p.exit != exitUsage || len(p.Next) == 0 && !strings.Contains(c.want, "xml") {
			t.Errorf("%q: %+v", c.words, p)
		}
	}
}
