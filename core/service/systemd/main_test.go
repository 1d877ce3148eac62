package systemd

import (
	"os"
	"testing"

	"mk8s.io/mk/core/service/servicetest"
)

func TestMain(m *testing.M) {
	servicetest.RunChild()
	os.Exit(m.Run())
}
