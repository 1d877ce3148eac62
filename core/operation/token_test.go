package operation

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// TestTokenFilesAreLinked: people find tokens where they know them, whichever
// plugin is active; what somebody wrote there stays.
func TestTokenFilesAreLinked(t *testing.T) {
	t.Parallel()
	mk := shippedPlugins(t)
	for _, name := range []string{"file", "other"} {
		pluginFolder(t, filepath.Join(filepath.Dir(filepath.Dir(mk)), "plugins", "tokens-"+name), "tokens", name, "grants: {}\n")
	}
	n, err := CreateNode(Options{Root: folder(t, ""), Executable: mk, Version: "0.1.0", Env: func(string) string { return "" }, Now: time.Now, Log: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	writeFile(t, n.Root.Credentials("callback-token.txt"), "of somebody", 0o600)
	for range 2 {
		if err := n.InstallShipped(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := n.Root.Readlink("credentials/cluster-tokens.txt"); err != nil || got != "../plugins/state/tokens/file/cluster-tokens.txt" {
			t.Fatalf("cluster-tokens.txt leads to %q, %v", got, err)
		}
	}
	if got, err := n.Root.ReadFile("credentials/callback-token.txt"); err != nil || string(got) != "of somebody" {
		t.Errorf("somebody's file is %q, %v", got, err)
	}
	// Another process made another one active, and was killed before the links.
	if err := n.Root.Symlink("../plugins/state/tokens/other/cluster-tokens.txt", "credentials/cluster-tokens.txt"); err != nil {
		t.Fatal(err)
	}
	if err := n.linkTokens(); err != nil {
		t.Fatal(err)
	}
	if got, err := n.Root.Readlink("credentials/cluster-tokens.txt"); err != nil || got != "../plugins/state/tokens/file/cluster-tokens.txt" {
		t.Errorf("cluster-tokens.txt leads to %q, %v", got, err)
	}
}
