// Command certs-local is the certs plugin that ships with mk: it makes the
// cluster's authorities and keeps their keys in its own state folder.
package main

import "mk8s.io/mk/sdk"

// version is set by the build.
var version = "0.0.0" //nolint:gochecknoglobals // set by the linker

func main() {
	sdk.Serve(New(version), sdk.WithAbout(sdk.About{
		Description: "Authorities of the cluster's own, keys on the control-plane nodes.",
	}))
}
