package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
	"mk8s.io/mk/sdk/tokens"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sdktest.Conformance(t, func() plugin.Plugin { return New("1.0.0") }, sdktest.Build(t, "."), nil)
}

func TestDescription(t *testing.T) {
	t.Parallel()
	d, err := New("1.2.3").Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d.Identity.String() != "tokens/file" || d.Identity.Version != "1.2.3" || len(d.Grants.FilesWrite)+len(d.Grants.Network) > 0 {
		t.Fatalf("%+v", d)
	}
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func configured(t *testing.T) (*File, string, *clock) {
	t.Helper()
	p, c := New("1.0.0"), &clock{now: time.Now()}
	p.now = c.Now
	return p, sdktest.Configure(t, p, nil), c
}

func by(name string) tokens.Claimant { return tokens.Claimant{KeyFingerprint: name} }

func reserve(t *testing.T, p tokens.Reserver, token, who string, purpose tokens.Purpose, lease time.Duration) (tokens.Reservation, error) {
	t.Helper()
	return p.Reserve(t.Context(), tokens.ReserveRequest{Call: sdktest.Call(), Token: token, Claimant: by(who), Purpose: purpose, Lease: lease})
}

func issue(t *testing.T, p tokens.Plugin, r tokens.IssueRequest) tokens.Issued {
	t.Helper()
	if r.Call.OperationID == "" {
		r.Call = sdktest.Call()
	}
	i, err := p.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func wantReason(t *testing.T, err error, reason plugin.Reason) {
	t.Helper()
	if !errors.Is(err, reason) {
		t.Fatalf("got %v, want %s", err, string(reason))
	}
}

func TestReasonsAreToldApart(t *testing.T) {
	t.Parallel()
	p, _, c := configured(t)
	i := issue(t, p, tokens.IssueRequest{Purpose: tokens.Join, Role: plugin.RoleWorker, BoundNames: []string{"w1"}, Lifetime: time.Hour, Uses: 1})
	_, err := reserve(t, p, strings.Repeat("f", 32), "a", tokens.Join, time.Minute)
	wantReason(t, err, plugin.TokenUnknown)
	_, err = reserve(t, p, i.Token, "a", tokens.CertificateRequest, time.Minute)
	wantReason(t, err, plugin.TokenUnknown)
	v, err := reserve(t, p, i.Token, "a", tokens.Join, time.Minute)
	if err != nil || v.Role != plugin.RoleWorker || v.BoundNames[0] != "w1" || v.TokenID != i.ID {
		t.Fatal(v, err)
	}
	_, err = reserve(t, p, i.Token, "b", tokens.Join, time.Minute)
	wantReason(t, err, plugin.TokenReserved)
	c.add(time.Minute) // the reservation ends by itself
	wantReason(t, p.Commit(t.Context(), sdktest.Call(), v.ID), plugin.ReservationEnded)
	v, err = reserve(t, p, i.Token, "b", tokens.Join, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Commit(t.Context(), sdktest.Call(), v.ID); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, p.Release(t.Context(), sdktest.Call(), v.ID), plugin.NotPossible)
	_, err = reserve(t, p, i.Token, "c", tokens.Join, time.Minute)
	wantReason(t, err, plugin.TokenUsed)
	i = issue(t, p, tokens.IssueRequest{Purpose: tokens.Join, Lifetime: time.Hour, Uses: 2})
	c.add(time.Hour)
	_, err = reserve(t, p, i.Token, "c", tokens.Join, time.Minute)
	wantReason(t, err, plugin.TokenExpired)
}

func TestAHolderOutlivesTheToken(t *testing.T) {
	t.Parallel()
	p, _, c := configured(t)
	i := issue(t, p, tokens.IssueRequest{Purpose: tokens.Join, Lifetime: 10 * time.Second, Uses: 1})
	v, err := reserve(t, p, i.Token, "a", tokens.Join, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	c.add(30 * time.Second)
	again, err := reserve(t, p, i.Token, "a", tokens.Join, time.Minute)
	if err != nil || again.ID != v.ID || !again.Until.After(v.Until) {
		t.Fatal(again, err)
	}
	if err := p.Commit(t.Context(), sdktest.Call(), v.ID); err != nil {
		t.Fatal(err)
	}
}

func TestSeveralUsesAndNoBound(t *testing.T) {
	t.Parallel()
	p, _, _ := configured(t)
	two := issue(t, p, tokens.IssueRequest{Purpose: tokens.Join, Uses: 2})
	forever := issue(t, p, tokens.IssueRequest{Purpose: tokens.Persistent})
	for n := range 5 {
		who := fmt.Sprint("node-", n)
		v, err := reserve(t, p, two.Token, who, tokens.Join, time.Minute)
		if n >= 2 {
			wantReason(t, err, plugin.TokenUsed)
		} else if err = errors.Join(err, p.Commit(t.Context(), sdktest.Call(), v.ID)); err != nil {
			t.Fatal(err)
		}
		v, err = reserve(t, p, forever.Token, who, tokens.Join, time.Minute)
		if err = errors.Join(err, p.Commit(t.Context(), sdktest.Call(), v.ID)); err != nil {
			t.Fatal(err)
		}
	}
	live, err := p.List(t.Context(), false)
	if err != nil || len(live) != 1 || live[0].ID != forever.ID || !live[0].Unbounded {
		t.Fatalf("%+v %v", live, err)
	}
	if all, err := p.List(t.Context(), true); err != nil || len(all) != 2 {
		t.Fatalf("%+v %v", all, err)
	}
}

func TestPlainLinesAreHonoredAndHashed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, line, token string
		purpose                 tokens.Purpose
		want                    plugin.Reason // of the second node
	}{
		{"one use", "cluster-tokens.txt", "0123456789abcdef0123456789abcdef\n", "0123456789abcdef0123456789abcdef", tokens.Join, plugin.TokenUsed},
		{"with an end", "cluster-tokens.txt", "0123456789abcdef|99999999999\n", "0123456789abcdef", tokens.Join, ""},
		{"persistent", "persistent-cluster-tokens.txt", "# ours\n0123456789abcdef\n", "0123456789abcdef", tokens.Join, ""},
		{"callback", "callback-token.txt", "0123456789abcdef\n", "0123456789abcdef", tokens.Callback, ""},
		{"callback of a node", "callback-tokens.txt", "10.0.0.2:25000 0123456789abcdef\n", "0123456789abcdef", tokens.Callback, ""},
		{"certificate", "certs-request-tokens.txt", "0123456789abcdef-kubelet\n", "0123456789abcdef-kubelet", tokens.CertificateRequest, plugin.TokenUsed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, dir, _ := configured(t)
			path := filepath.Join(dir, c.file)
			if err := os.WriteFile(path, []byte(c.line), 0o600); err != nil {
				t.Fatal(err)
			}
			v, err := reserve(t, p, c.token, "a", c.purpose, time.Minute)
			if err = errors.Join(err, p.Commit(t.Context(), sdktest.Call(), v.ID)); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil || strings.Contains(string(b), c.token) || !strings.Contains(string(b), "sha256:") {
				t.Fatalf("%s %v", b, err)
			}
			if strings.HasPrefix(c.line, "#") && !strings.HasPrefix(string(b), "# ours\n") {
				t.Errorf("the comment is gone: %s", b)
			}
			_, err = reserve(t, p, c.token, "b", c.purpose, time.Minute)
			if c.want != "" {
				wantReason(t, err, c.want)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestWhatIsNoToken(t *testing.T) {
	t.Parallel()
	p, dir, _ := configured(t)
	lines := []string{"short", "# comment of more than sixteen", "sha256:" + strings.Repeat("a", 64), "has a blank 0123456789", "0123456789abcdef|never"}
	if err := os.WriteFile(filepath.Join(dir, "cluster-tokens.txt"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		_, err := reserve(t, p, l, "a", tokens.Join, time.Minute)
		wantReason(t, err, plugin.TokenUnknown)
	}
	expired := "0123456789abcdef|1"
	if err := os.WriteFile(filepath.Join(dir, "cluster-tokens.txt"), []byte(expired+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Upstream takes the whole line of an expired token for a good one.
	_, err := reserve(t, p, expired, "a", tokens.Join, time.Minute)
	wantReason(t, err, plugin.TokenUnknown)
}

// TestMistakenLines: a line that a person wrote wrong is named by whoever lists,
// and stays; the tokens beside it are as good as before.
func TestMistakenLines(t *testing.T) {
	t.Parallel()
	p, dir, _ := configured(t)
	path := filepath.Join(dir, "cluster-tokens.txt")
	made := issue(t, p, tokens.IssueRequest{Purpose: tokens.Join, Uses: 1})
	ours, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(ours), "created", "Created", 1)
	cut := string(ours[:len(ours)/2])
	for name, c := range map[string]struct {
		text string
		line int // 0: nothing is wrong
	}{
		"no time":         {"# mine\n0123456789abcdef|never\n", 2},
		"too short":       {"\n\nshort\n", 3},
		"two words":       {string(ours) + "0123456789abcdef 0123456789abcdef", 2},
		"ours, changed":   {string(ours) + changed, 2},
		"ours, cut off":   {string(ours) + cut + "\nsha2\n" + string(ours), 0},
		"a lost disk's":   {string(ours) + strings.Repeat("\x00", 40) + "\n", 0},
		"another's token": {"# mine\n\n0123456789abcdef\n", 0},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := p.List(t.Context(), true)
		if c.line == 0 && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.line > 0 {
			wantReason(t, err, plugin.BadSettings)
			if want := fmt.Sprintf("%s:%d: ", path, c.line); !strings.Contains(fmt.Sprint(err), want) || strings.Contains(fmt.Sprint(err), "0123456789abcdef") {
				t.Errorf("%s: %v, wants %s", name, err, want)
			}
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != c.text {
			t.Errorf("%s: the file is now %q (%v)", name, after, err)
		}
	}
	// A good token in plain beside it has the file written anew.
	text := string(ours) + "0123456789abcdef|never\n0123456789abcdef\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{made.Token, "0123456789abcdef"} {
		if _, err := reserve(t, p, token, "a", tokens.Join, time.Minute); err != nil {
			t.Errorf("%s: %v", token, err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !strings.Contains(string(after), "0123456789abcdef|never\n") || strings.Contains(string(after), "\n0123456789abcdef\n") {
		t.Errorf("%s (%v)", after, err)
	}
}

func TestChosenTokens(t *testing.T) {
	t.Parallel()
	p, _, _ := configured(t)
	chosen := strings.Repeat("k", 32)
	first := issue(t, p, tokens.IssueRequest{Purpose: tokens.Join, Uses: 1, Token: chosen})
	if first.Token != chosen {
		t.Fatal(first)
	}
	for _, bad := range []string{chosen, "short", strings.Repeat("a b", 20), strings.Repeat("x", 40) + "\n", strings.Repeat("a/", 20), "sha256:" + chosen, strings.Repeat("|", 40)} {
		_, err := p.Issue(t.Context(), tokens.IssueRequest{Call: sdktest.Call(), Purpose: tokens.Join, Token: bad})
		wantReason(t, err, plugin.BadArgument)
	}
	_, err := p.Issue(t.Context(), tokens.IssueRequest{Purpose: tokens.Join})
	wantReason(t, err, plugin.BadArgument)
}

func TestNoTokenIsKeptInClear(t *testing.T) {
	t.Parallel()
	p, dir, _ := configured(t)
	i := issue(t, p, tokens.IssueRequest{Purpose: tokens.Join, Uses: 1})
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || strings.Contains(string(b), i.Token) {
			t.Errorf("%s: %v", e.Name(), err)
		}
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestStaticIsStable(t *testing.T) {
	t.Parallel()
	p, dir, _ := configured(t)
	ask := func(p *File, user string) string {
		t.Helper()
		c, err := p.Static(t.Context(), sdktest.Call(), []tokens.Credential{{User: user, UID: "u", Groups: []string{"g"}}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := base64.StdEncoding.DecodeString(c[0].Token)
		if err != nil || len(b) != 32 {
			t.Fatalf("%q %v", c[0].Token, err)
		}
		return c[0].Token
	}
	first := ask(p, "admin")
	other := New("1.0.0")
	if err := other.Configure(t.Context(), plugin.Configuration{StateDir: dir}); err != nil {
		t.Fatal(err)
	}
	if ask(other, "admin") != first || ask(p, "scheduler") == first {
		t.Fatal("credentials are not stable by user")
	}
	if err := p.Forget(t.Context(), sdktest.Call()); err != nil {
		t.Fatal(err)
	}
	if ask(p, "admin") == first {
		t.Fatal("forgotten credentials came back")
	}
}
