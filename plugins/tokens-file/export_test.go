package main

import (
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
	"mk8s.io/mk/sdk/tokens"
)

// TestWhatControlPlaneNodesShare: static credentials and callback tokens are
// the same on both; a token to join with is good on one node only.
func TestWhatControlPlaneNodesShare(t *testing.T) {
	t.Parallel()
	server, _, _ := configured(t)
	joiner, _, _ := configured(t)
	binding := []byte("reservation")
	static := func(p *File) string {
		t.Helper()
		c, err := p.Static(t.Context(), sdktest.Call(), []tokens.Credential{{User: "admin"}})
		if err != nil {
			t.Fatal(err)
		}
		return c[0].Token
	}
	own := static(joiner)
	join := issue(t, server, tokens.IssueRequest{Purpose: tokens.Join, Uses: 1})
	callback := issue(t, server, tokens.IssueRequest{Purpose: tokens.Callback, BoundNames: []string{"n1"}})
	gone := issue(t, server, tokens.IssueRequest{Purpose: tokens.Callback})
	if err := server.Revoke(t.Context(), sdktest.Call(), gone.ID); err != nil {
		t.Fatal(err)
	}
	recipient, err := joiner.PrepareImport(t.Context(), sdktest.Call())
	if err != nil {
		t.Fatal(err)
	}
	export := sdktest.Call()
	sealed, err := server.Export(t.Context(), export, recipient, binding)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := server.Export(t.Context(), export, recipient, binding); err != nil || string(again.Data) != string(sealed.Data) {
		t.Errorf("asked again, it seals anew: %v", err)
	}
	if strings.Contains(string(sealed.Data), callback.ID) {
		t.Error("what is sealed can be read")
	}
	take := sdktest.Call()
	wantReason(t, joiner.Import(t.Context(), sdktest.Call(), sealed, []byte("another")), plugin.BadArgument)
	wantReason(t, joiner.Import(t.Context(), sdktest.Call(), plugin.Sealed{Data: sealed.Data, Format: "x"}, binding), plugin.Unsupported)
	for range 2 { // again is no error
		if err := joiner.Import(t.Context(), take, sealed, binding); err != nil {
			t.Fatal(err)
		}
	}
	if got := static(joiner); got != static(server) || got == own {
		t.Error("static credentials differ")
	}
	if r, err := reserve(t, joiner, callback.Token, "key", tokens.Callback, time.Minute); err != nil || r.BoundNames[0] != "n1" {
		t.Errorf("the callback token: %+v, %v", r, err)
	}
	for _, unknown := range []string{join.Token, gone.Token} {
		_, err := reserve(t, joiner, unknown, "key", tokens.Join, time.Minute)
		wantReason(t, err, plugin.TokenUnknown)
	}
	// The key to open with is used once.
	wantReason(t, joiner.Import(t.Context(), sdktest.Call(), sealed, binding), plugin.BadArgument)
}
