package joinstring_test

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"mk8s.io/mk/core/joinstring"
)

const token = "0123456789abcdef0123456789abcdef"

func print64() string { return strings.Repeat("0a", 32) }

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want joinstring.Invitation
	}{
		{"10.0.0.4:25000/" + token, joinstring.Invitation{Host: "10.0.0.4", Port: 25000, Token: token}},
		{"  10.0.0.4:25000/" + token + "/" + strings.ToUpper(print64()) + "\n",
			joinstring.Invitation{Host: "10.0.0.4", Port: 25000, Token: token, Fingerprint: print64()}},
		{"[fd00:0::1]:25000/" + token, joinstring.Invitation{Host: "fd00::1", Port: 25000, Token: token}},
		{"[::ffff:10.0.0.4]:1/" + token, joinstring.Invitation{Host: "10.0.0.4", Port: 1, Token: token}},
		{"Node-a.Example.org.:65535/" + token, joinstring.Invitation{Host: "node-a.example.org", Port: 65535, Token: token}},
		{"localhost:025000/" + token, joinstring.Invitation{Host: "localhost", Port: 25000, Token: token}},
		{"1.example:7/a-token-of+someone=", joinstring.Invitation{Host: "1.example", Port: 7, Token: "a-token-of+someone="}},
	} {
		got, err := joinstring.Parse(c.in)
		if err != nil || got != c.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", c.in, got, err, c.want)
		}
		if again, err := joinstring.Parse(written(got)); err != nil || again != got {
			t.Errorf("Parse(%q) = %+v, %v; want what it was written from, %+v", written(got), again, err, got)
		}
	}
}

func TestParseSaysWhichPartIsWrong(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]joinstring.Error{
		"":                                             {Part: joinstring.Whole, Why: "is empty"},
		" \t":                                          {Part: joinstring.Whole, Why: "is empty"},
		"10.0.0.4:25000":                               {Part: joinstring.Whole, Why: "has 1 parts"},
		token:                                          {Part: joinstring.Whole, Why: "has 1 parts"},
		"https://10.0.0.4:25000/" + token:              {Part: joinstring.Whole, Why: "has 4 parts"},
		"a:1/" + token + "/" + print64() + "/x":        {Part: joinstring.Whole, Why: "has 4 parts"},
		strings.Repeat("a", 3000):                      {Part: joinstring.Whole, Why: "has 3000 characters"},
		"10.0.0.4/" + token:                            {Part: joinstring.Port, Why: "is missing after"},
		"[fd00::1]/" + token:                           {Part: joinstring.Port, Why: "is missing after"},
		"10.0.0.4:/" + token:                           {Part: joinstring.Port, Why: "is missing after the colon"},
		"10.0.0.4:0/" + token:                          {Part: joinstring.Port, Why: `"0" is not a number`},
		"10.0.0.4:65536/" + token:                      {Part: joinstring.Port, Why: "not a number from 1 to 65535"},
		"10.0.0.4:+80/" + token:                        {Part: joinstring.Port, Why: "not a number"},
		"10.0.0.4:x/" + token:                          {Part: joinstring.Port, Why: "not a number"},
		":25000/" + token:                              {Part: joinstring.Host, Why: "is missing"},
		"fd00::1/" + token:                             {Part: joinstring.Host, Why: "brackets"},
		"fd00::1:25000/" + token:                       {Part: joinstring.Host, Why: "brackets"},
		"fd00:0:0:0:0:0:0:1:25000/" + token:            {Part: joinstring.Host, Why: "more than one colon"},
		"[fe80::1%eth0]:25000/" + token:                {Part: joinstring.Host, Why: "names an interface"},
		"[::]:25000/" + token:                          {Part: joinstring.Host, Why: "no address of one machine"},
		"[::ffff:0.0.0.0]:25000/" + token:              {Part: joinstring.Host, Why: "no address of one machine"},
		"0.0.0.0:25000/" + token:                       {Part: joinstring.Host, Why: "no address of one machine"},
		"[node-a]:25000/" + token:                      {Part: joinstring.Host, Why: "not an IPv6 address"},
		"[fd00::1:25000/" + token:                      {Part: joinstring.Host, Why: "not to be read"},
		"10.0.0:25000/" + token:                        {Part: joinstring.Host, Why: "ends in a number"},
		"10.0.0.256:25000/" + token:                    {Part: joinstring.Host, Why: "ends in a number"},
		"node_a:25000/" + token:                        {Part: joinstring.Host, Why: "neither an IP address nor a host name"},
		"node..a:25000/" + token:                       {Part: joinstring.Host, Why: "neither"},
		"-node:25000/" + token:                         {Part: joinstring.Host, Why: "neither"},
		strings.Repeat("a.", 130) + "a:25000/" + token: {Part: joinstring.Host, Why: "has 261 characters"},
		"10.0.0.4:25000/":                              {Part: joinstring.Token, Why: "is missing"},
		"10.0.0.4:25000//" + print64():                 {Part: joinstring.Token, Why: "is missing"},
		"10.0.0.4:25000/" + token[:15]:                 {Part: joinstring.Token, Why: "has 15 characters"},
		"10.0.0.4:25000/" + token + " " + token:        {Part: joinstring.Token, Why: "has a blank"},
		"10.0.0.4:25000/" + token + "|1732492800":      {Part: joinstring.Token, Why: "or a |"},
		"10.0.0.4:25000/" + token + "\xff":             {Part: joinstring.Token, Why: "control character"},
		"10.0.0.4:25000/" + token + "/":                {Part: joinstring.Fingerprint, Why: "has 0 characters"},
		"10.0.0.4:25000/" + token + "/0a0a0a0a0a0a":    {Part: joinstring.Fingerprint, Why: "has 12 characters, not 64"},
		"10.0.0.4:25000/" + token + "/" + strings.Repeat("zz", 32): {Part: joinstring.Fingerprint, Why: "is not hexadecimal"},
	} {
		_, err := joinstring.Parse(in)
		e, ok := errors.AsType[*joinstring.Error](err)
		if !ok || e.Part != want.Part || !strings.Contains(e.Why, want.Why) {
			t.Errorf("Parse(%q) = %v, want a wrong %s that %s", in, err, want.Part, want.Why)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"10.0.0.4:25000/" + token, "[fd00::1]:25000/" + token + "/" + print64(), "node-a:25000/" + token,
		"fd00::1:25000/" + token, "a:1/b/c/d", "[::ffff:1.2.3.4]:1/" + token, "", "/", "[]:1/" + token,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i, err := joinstring.Parse(s)
		if err != nil {
			if _, ok := errors.AsType[*joinstring.Error](err); !ok {
				t.Errorf("Parse(%q) = %v, which names no part", s, err)
			}
			if parts := strings.Split(strings.TrimSpace(s), "/"); len(parts) > 1 && len(parts[1]) >= 24 && strings.Contains(err.Error(), parts[1]) {
				t.Errorf("Parse(%q) tells the token: %v", s, err)
			}
			return
		}
		if again, err := joinstring.Parse(written(i)); err != nil || again != i {
			t.Errorf("Parse(%q) = %+v, written as %q and read as %+v, %v", s, i, written(i), again, err)
		}
	})
}

// written is the connection string of an invitation.
func written(i joinstring.Invitation) string {
	s := net.JoinHostPort(i.Host, strconv.Itoa(i.Port)) + "/" + i.Token
	if i.Fingerprint != "" {
		s += "/" + i.Fingerprint
	}
	return s
}
