// Command clustering-approve is a clustering plugin with which a person decides
// who joins: a join waits until somebody says `mk node approve NAME`, or deny,
// on the node that serves it. Everything else is as with clustering/etcd, whose
// answers are a library of the sdk.
package main

import (
	"time"

	"mk8s.io/mk/sdk"
)

// version is set by the build.
var version = "0.0.0" //nolint:gochecknoglobals // set by the linker

func main() {
	sdk.Serve(New(version, time.Now, sdk.Host), sdk.WithAbout(sdk.About{
		Description: "As clustering/etcd, but a person approves each join.",
	}))
}
