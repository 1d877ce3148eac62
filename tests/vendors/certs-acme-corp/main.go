// Command certs-acme-corp is a certs plugin of a company that has its own ways:
// each authority is an intermediate below a root, leaves live for 90 days, and
// a cluster trusts as clients only what its own intermediate signed.
package main

import "mk8s.io/mk/sdk"

// version is set by the build.
var version = "0.0.0" //nolint:gochecknoglobals // set by the linker

func main() {
	sdk.Serve(&corp{version: version}, sdk.WithAbout(sdk.About{
		Description: "Acme Corp's own authorities: a root, an intermediate, leaves of 90 days.",
		Homepage:    "https://acme.example/mk",
	}))
}
