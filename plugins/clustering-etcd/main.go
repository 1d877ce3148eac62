// Command clustering-etcd is the clustering plugin that ships with mk: the
// control-plane nodes are the members of one etcd cluster.
package main

import "mk8s.io/mk/sdk"

// version is set by the build.
var version = "0.0.0" //nolint:gochecknoglobals // set by the linker

func main() {
	sdk.Serve(New(version), sdk.WithAbout(sdk.About{
		Description: "The control-plane nodes are the members of one etcd cluster.",
	}))
}
