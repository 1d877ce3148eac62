// Command addons-core is the addons plugin that ships with mk. Its addons are
// made of Kubernetes objects and nothing else: it keeps no state, changes no
// file and needs no network.
package main

import "mk8s.io/mk/sdk"

// version is set by the build.
var version = "0.0.0" //nolint:gochecknoglobals // set by the linker

func main() {
	sdk.Serve(New(version), sdk.WithAbout(sdk.About{Description: "The addons that every cluster wants: dns."}))
}
