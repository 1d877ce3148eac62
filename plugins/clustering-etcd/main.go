// Command clustering-etcd is the clustering plugin that ships with mk: the
// control-plane nodes are the members of one etcd cluster. It sets up the first
// node, invites others, decides who may come, and takes members in and out.
package main

import (
	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/clustering/etcd"
)

// version is set by the build.
var version = "0.0.0" //nolint:gochecknoglobals // set by the linker

func main() {
	sdk.Serve(etcd.New(version, sdk.Host), sdk.WithAbout(sdk.About{
		Description: "The control-plane nodes are the members of one etcd cluster.",
	}))
}
