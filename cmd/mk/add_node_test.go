package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/joinstring"
	"mk8s.io/mk/sdk/clustering"
)

// Every format of MicroK8s, and what is printed can be typed as it is: a token
// for workers is refused without --worker.
func TestInvitations(t *testing.T) {
	token, check := strings.Repeat("t", 32), strings.Repeat("ab", 32)
	first, second := "10.0.0.4:25000/"+token+"/"+check, "[fd00::4]:25000/"+token+"/"+check
	i := clustering.Invitation{Token: token, ConnectionStrings: []string{first, second}}
	for _, c := range []struct {
		output string
		worker bool
		want   string
	}{
		{"short", false, "mk join " + first + "\nmk join " + second + "\n"},
		{"short", true, "mk join " + first + " --worker\nmk join " + second + " --worker\n"},
		{"token", false, token + "\n"},
		{"token-check", true, token + "/" + check + "\n"},
		{"yaml", false, "token: " + token + "/" + check + "\nurls:\n- " + first + "\n- '" + second + "'\n"},
	} {
		s, out, _ := testSession(t, c.output)
		if err := s.showInvitation(i, c.worker, nil); err != nil || out.String() != c.want {
			t.Errorf("-o %s, worker %v: %v\n%s\nwant\n%s", c.output, c.worker, err, out, c.want)
		}
	}
	s, out, _ := testSession(t, "json")
	if err := s.showInvitation(i, false, []string{"10.0.0.4:25000/" + token + "/" + check[:12]}); err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(out.Bytes(), &document); err != nil || document["token"] != token+"/"+check || len(document["urls"].([]any)) != 2 || len(document["microk8s"].([]any)) != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	for worker, want := range map[bool]int{false: 3, true: 2} { // lines to type
		s, out, _ := testSession(t, "pretty")
		if err := s.showInvitation(i, worker, nil); err != nil {
			t.Fatal(err)
		}
		found := 0
		for line := range strings.Lines(out.String()) {
			words := strings.Fields(line)
			if len(words) < 4 || words[0] != "sudo" {
				continue
			}
			found++
			if _, err := joinstring.Parse(words[3]); err != nil || worker && words[len(words)-1] != "--worker" {
				t.Errorf("%q: %v", line, err)
			}
		}
		if found != want {
			t.Errorf("worker %v: %d lines to type, want %d\n%s", worker, found, want, out)
		}
	}
}

// Who answers is told apart by the fingerprint alone: without it a join is
// refused, unless a person says that it does not matter.
func TestAJoinWantsAFingerprint(t *testing.T) {
	line := "10.0.0.4:25000/" + strings.Repeat("t", 32)
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"join", line}, "has no fingerprint"},
		{[]string{"join", line, "--worker", "--controlplane"}, "exclude each other"},
		{[]string{"join", line, "--worker", "--no-vote"}, "exclude each other"},
		{[]string{"join", line, "--skip-verify", "--labels", "tier"}, "is not KEY=VALUE"},
		{[]string{"join", line, "--skip-verify", "--taints", "a=b"}, "--taints"},
		{[]string{"join", "-"}, "no connection string on standard input"},
		{[]string{"join"}, "one connection string"},
	} {
		s, _, errs := testSession(t, "pretty")
		app := newApp(s)
		words := arrange(app, append([]string{"mk", "--root=" + s.global.root}, c.words...))
		exit := s.finish(t.Context(), app.RunContext(t.Context(), words))
		if exit != exitUsage || !strings.Contains(errs.String(), c.want) {
			t.Errorf("mk %q: exit %d, want %q\n%s", c.words, exit, c.want, errs)
		}
	}
}

func TestNodesAreShownWithTheirPlugins(t *testing.T) {
	now := time.Now()
	plugins := []cluster.Plugin{
		{Kind: "tokens", Name: "file", Version: "1.0.0"},
		{Kind: "certs", Name: "local", Version: "1.0.0", Authority: "kubernetes"}, {Kind: "certs", Name: "local", Version: "1.0.0", Authority: "datastore"},
	}
	x := shownNode{Name: "n1", Ready: true, Version: "v1.36.3"}
	x.add(&cluster.Member{Name: "n1", Role: "control-plane", State: cluster.Joined}, &cluster.Report{
		At: now, Plugins: plugins, Versions: map[string]string{"mk": "0.1.0"}, Drift: []cluster.Drift{{What: "kubelet --max-pods", Want: "111", Have: "50"}}})
	other := x
	other.Name, other.Drift = "n2", nil
	worker := shownNode{Name: "n3", Ready: true}
	worker.add(&cluster.Member{Name: "n3", Role: "worker", State: cluster.Joined}, nil)
	var out strings.Builder
	if err := printNodes(&out, []shownNode{x, other, worker}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"plugins of n1, n2: certs/local 1.0.0, tokens/file 1.0.0\n", "n1: kubelet --max-pods is 50, the cluster wants 111\n", " worker ", " never\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := printView(&out, &shownView{shownNode: x}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"plugins    certs/local 1.0.0, tokens/file 1.0.0\n", "drift      1\n", "the cluster wants 111\n", "contact    0s ago\n", "mk         0.1.0\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
