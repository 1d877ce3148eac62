package changeset

import "time"

// Limits of a ChangeSet.
const (
	MaxOperations = 1000
	MaxFile       = 4 << 20  // bytes of one file or manifest
	MaxContent    = 16 << 20 // bytes of all of them
	MaxWait       = 30 * time.Minute
)
