package changeset

import (
	"crypto/sha256"
	"encoding/hex"
)

// DigestOf is the digest of a file's content, as Operation.Expects names it.
func DigestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
