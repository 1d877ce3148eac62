// Command tokens-file is the tokens plugin that ships with mk. It keeps tokens
// in text files of its state folder, one token a line, under the names that
// MicroK8s gives them:
//
//	cluster-tokens.txt             join tokens
//	persistent-cluster-tokens.txt  join tokens that no join uses up
//	callback-tokens.txt            whom another node lets configure it
//	callback-token.txt             the same; only read, for what other tools write
//	certs-request-tokens.txt       who may ask for a certificate
//
// What mk writes there are hashes. A person may add a plain line, "token" or
// "token|when it ends, in Unix seconds": it is good from then on, and replaced
// by its hash when it is first seen. Removing a line ends the token.
package main

import "mk8s.io/mk/sdk"

// version is set by the build.
var version = "0.0.0" //nolint:gochecknoglobals // set by the linker

func main() {
	sdk.Serve(New(version), sdk.WithAbout(sdk.About{
		Description: "Tokens as hashes in files, one a line.",
	}))
}
