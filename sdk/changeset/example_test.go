package changeset_test

import (
	"fmt"

	"mk8s.io/mk/sdk/changeset"
)

func Example() {
	c := changeset.Build().
		WriteFile("credentials/example", []byte("hush")).Mode(0o600).Secret().Because("the example needs it").
		SetArgument("kubelet", "node-ip", "10.0.0.1").Owner("clustering/example").
		Restart("kubelite").
		ChangeSet()
	for _, o := range c.Redacted().Operations {
		fmt.Println(o)
	}
	fmt.Println(c.Validate())
	// Output:
	// write file credentials/example
	// set argument kubelet/node-ip
	// restart service kubelite
	// <nil>
}
