package observe

import (
	"testing"

	"mk8s.io/mk/core/kube"
)

func TestImageFindings(t *testing.T) {
	t.Parallel()
	f := imageFinding(kube.MissingImage{Image: "nginx:1.29", Why: "lookup registry-1.docker.io: no such host", NoWay: true})
	if want := "`nginx:1.29` is not on this node and there is no way out: `mk images import`, or a mirror: `mk help mirrors`"; f.What != want || !f.Serious || f.Why == "" {
		t.Errorf("%+v", f)
	}
	if f := imageFinding(kube.MissingImage{Image: "a:2", Why: "not found"}); f.What != "`a:2` cannot be pulled" || f.Why != "not found" {
		t.Errorf("%+v", f)
	}
}
