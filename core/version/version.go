// Package version is which mk this is. The build sets it.
package version

import (
	"strconv"
	"time"
)

// Set by the linker: the version, and when the commit was made that it was
// built from (seconds since 1970).
var (
	Version = "0.0.0-dev" //nolint:gochecknoglobals // set by the linker
	Built   = "0"         //nolint:gochecknoglobals // set by the linker
)

// BuiltAt is a moment of which this program knows that it has passed.
func BuiltAt() time.Time {
	s, err := strconv.ParseInt(Built, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(s, 0)
}
