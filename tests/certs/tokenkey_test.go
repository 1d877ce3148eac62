package certs

import (
	"crypto"
	"path/filepath"
	"testing"

	"k8s.io/client-go/util/keyutil"

	"mk8s.io/mk/core/pki"
)

// The API server reads the public half from the same file as the private one,
// with a reader of its own that does not know every form.
func TestKubernetesReadsTheTokenKey(t *testing.T) {
	t.Parallel()
	for _, kt := range []pki.KeyType{pki.ECDSAP256, pki.RSA2048} {
		text, err := pki.NewTokenKey(kt)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		write(t, dir, "key", text)
		private, err := keyutil.PrivateKeyFromFile(filepath.Join(dir, "key"))
		if err != nil {
			t.Fatalf("%s: %v", kt, err)
		}
		public, err := keyutil.PublicKeysFromFile(filepath.Join(dir, "key"))
		if err != nil || len(public) != 1 {
			t.Fatalf("%s: %d keys, %v", kt, len(public), err)
		}
		ours, err := pki.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string]any{"private": private.(crypto.Signer).Public(), "public": public[0]} {
			if !ours.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(got) || pki.KeyTypeOf(got) != kt {
				t.Errorf("%s: the %s half is of another key", kt, what)
			}
		}
	}
}
