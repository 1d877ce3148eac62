package remains

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

func TestRulesOfOthersStay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ rules, want string }{
		"nothing":                  {"", ""},
		"others' only":             {"*nat\n:DOCKER - [0:0]\n-A DOCKER -i docker0 -j RETURN\nCOMMIT\n", "*nat\n:DOCKER - [0:0]\n-A DOCKER -i docker0 -j RETURN\nCOMMIT\n"},
		"our chain":                {":KUBE-SERVICES - [0:0]\n:POSTROUTING ACCEPT [1:2]\n", ":POSTROUTING ACCEPT [1:2]\n"},
		"a rule in it":             {"-A CNI-HOSTPORT-DNAT -p tcp -j CNI-DN-1\n", ""},
		"a jump to it":             {"-A POSTROUTING -m comment --comment x -j FLANNEL-POSTRTG\n-A POSTROUTING -j MASQUERADE\n", "-A POSTROUTING -j MASQUERADE\n"},
		"a goto":                   {"-A INPUT -g KUBE-FIREWALL\n", ""},
		"a name that only resists": {"-A INPUT -m comment --comment KUBE-ISH -j ACCEPT\n", "-A INPUT -m comment --comment KUBE-ISH -j ACCEPT\n"},
		"a chain with ours inside": {":MY-KUBE-THING - [0:0]\n", ":MY-KUBE-THING - [0:0]\n"},
		"a jump that has no end":   {"-A INPUT -j\n", "-A INPUT -j\n"},
	} {
		if got := string(withoutOurs([]byte(c.rules))); got != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
}

func TestUnescape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "/a/b": "/a/b", `/a\040b`: "/a b", `/tab\011`: "/tab\t", `\134`: `\`, `/cut\04`: `/cut\04`, `/no\999`: `/no\999`, `\040\040`: "  ",
	} {
		if got := unescape(in); got != want {
			t.Errorf("%q is %q, not %q", in, got, want)
		}
	}
}

// TestOnlyAShimOfThisNode: another program, or another containerd's shim, is
// none.
func TestOnlyAShimOfThisNode(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]Node{
		"another program":    {Shim: "/no/such/shim", Socket: os.Args[0]},
		"another containerd": {Shim: self, Socket: "/no/such/socket"},
	} {
		if n.isShim(os.Getpid()) {
			t.Errorf("%s is taken for a shim", name)
		}
	}
	if n := (Node{Shim: self, Socket: os.Args[0]}); !n.isShim(os.Getpid()) {
		t.Error("the program with its socket is not recognized")
	}
	if (Node{Shim: self, Socket: os.Args[0]}).isShim(1 << 30) {
		t.Error("a process that does not exist is a shim")
	}
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := waitFor(ctx, "it is so", func() bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	asked := 0
	if err := waitFor(t.Context(), "it is so", func() bool { asked++; return asked == 3 }); err != nil || asked != 3 {
		t.Errorf("%v after %d", err, asked)
	}
}
