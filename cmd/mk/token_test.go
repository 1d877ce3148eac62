package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/sdk/tokens"
)

func TestTokensAreShownWithTheirState(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var shown []shownToken
	for _, c := range []struct {
		token tokens.Token
		state string
	}{
		{tokens.Token{ID: "1", Purpose: tokens.Join, UsesLeft: 1, Created: now}, "good"},
		{tokens.Token{ID: "2", Purpose: tokens.Join, Created: now}, "used"},
		{tokens.Token{ID: "3", Purpose: tokens.Join, Unbounded: true, Expires: now}, "expired"},
		{tokens.Token{ID: "4", Purpose: tokens.Persistent, Unbounded: true, Role: "worker", BoundNames: []string{"w1"}}, "good"},
		{tokens.Token{ID: "5", Purpose: tokens.Join, UsesLeft: 1, ReservedBy: []tokens.Claimant{{KeyFingerprint: "0123456789abcdef0123"}}}, "held"},
	} {
		got := showToken(c.token, now)
		if got.State != c.state {
			t.Errorf("token %s is %q, want %q", c.token.ID, got.State, c.state)
		}
		shown = append(shown, got)
	}
	var text bytes.Buffer
	if err := printTokens(&text, shown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"5   join        any     held     1          never                any  key 0123456789ab\n", "4   persistent  worker  good     any        never                w1   -\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no line %q in\n%s", want, text.String())
		}
	}
	data, err := json.Marshal(shown[4])
	if err != nil || !strings.Contains(string(data), `"heldBy":[{"keyFingerprint":"0123456789abcdef0123"}]`) || strings.Contains(string(data), "expires") {
		t.Errorf("as a document: %s, %v", data, err)
	}
}
