package operation

import (
	"regexp"
	"strings"
	"testing"
)

func TestHostsFiles(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"", "server = \"https://registry-1.docker.io\"\n", "server = \"registry:5000\"\n",
		"[host.\"https://mirror/v2/x\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n  dial_timeout = \"5s\"\n  ca = [\"a.crt\"]\n" +
			"  client = [[\"a.crt\", \"a.key\"]]\n  skip_verify = true\n  [host.\"https://mirror/v2/x\".header]\n    x = [\"y\"]\n",
	} {
		if err := checkHosts("hosts.toml", []byte(good)); err != nil {
			t.Errorf("%s\n%v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"server = 7\n":                         "hosts.toml:1: ",
		"\nsever = \"https://a\"\n":            "hosts.toml:2: unknown key \"sever\"",
		"[host.\"http://a\"]\nskip_verify=1\n": "hosts.toml:2: ",
		"[host.\"a b\"]\n":                     "hosts.toml:1: ",
		"[host.\"a\"]\ndial_timeout=\"x\"\n":   "hosts.toml:2: ",
		"x\n":                                  "hosts.toml:1: ",
	} {
		if err := checkHosts("hosts.toml", []byte(bad)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, wants %s", bad, err, want)
		}
	}
}

// FuzzHosts: whatever a hosts.toml holds, a fault of it has a line that is
// there.
func FuzzHosts(f *testing.F) {
	for _, seed := range []string{"server = \"https://a\"\n", "[host.\"http://b\"]\n  capabilities = [\"pul\"]\n", "[[", "\xff", "a=1\na=2"} {
		f.Add(seed)
	}
	named := regexp.MustCompile(`(?s)^hosts\.toml:([1-9][0-9]*): .`)
	f.Fuzz(func(t *testing.T, text string) {
		if err := checkHosts("hosts.toml", []byte(text)); err != nil && !named.MatchString(err.Error()) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
