package main

import (
	"testing"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/clustering/etcd"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	noHost := func() (host.Host, error) { return nil, sdk.ErrNoHost }
	sdktest.Conformance(t, func() plugin.Plugin { return etcd.New("1.0.0", noHost) }, sdktest.Build(t, "."), nil)
}
