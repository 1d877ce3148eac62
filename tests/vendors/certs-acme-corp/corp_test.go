package main

import (
	"testing"

	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sdktest.Conformance(t, func() plugin.Plugin { return &corp{version: "1.0.0"} }, sdktest.Build(t, "."), nil)
}
