package kubeconfig

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	var tokens []Token
	for i, f := range Files() {
		tokens = append(tokens, Token{Token: fmt.Sprintf("0123456789abcde%d==", i), User: f.LoginFor("node-a"), UID: f.UID, Groups: f.Groups})
	}
	data, err := FormatTokens(tokens)
	if err != nil {
		t.Fatal(err)
	}
	const want = `0123456789abcde0==,admin,admin,"system:masters"
0123456789abcde1==,system:kube-controller-manager,controller
0123456789abcde2==,system:kube-scheduler,scheduler
0123456789abcde3==,system:node:node-a,kubelet-0,"system:nodes"
0123456789abcde4==,system:kube-proxy,kube-proxy
`
	if string(data) != want {
		t.Errorf("%s", data)
	}
	back, err := ParseTokens("f", data)
	if err != nil || !reflect.DeepEqual(back, tokens) {
		t.Errorf("%v %v", back, err)
	}
	if s := fmt.Sprintf("%v %s", back[0], back[1]); strings.Contains(s, "abcde") {
		t.Errorf("a token is shown: %s", s)
	}
	if _, err := FormatTokens(append(tokens, tokens[0])); err == nil {
		t.Error("a token twice was written")
	}
	if two, err := ParseTokens("f", []byte("0123456789abcdef,u,i,\"g1,g2\"\r\n")); err != nil || len(two[0].Groups) != 2 {
		t.Errorf("%v %v", two, err)
	}
}

func TestWrongTokens(t *testing.T) {
	t.Parallel()
	const s = "s3cretS3cretS3cret"
	for text, want := range map[string]string{
		s + ",u\n":                         "f:1: 2 fields",
		s + ",u,i,g,x\n":                   "f:1: 5 fields",
		s + ",u,i\n\n" + s + ",v,j\n":      "f:3: the token is line 1's",
		"s3cret,u,i\n":                     "f:1: a token has 16",
		s + ",,i\n":                        "f:1: user and uid",
		s + ",u u,i\n":                     "f:1: fields are not empty",
		s + ",u,i,\"g,,h\"\n":              "f:1: fields are not empty",
		s + ",u,\"i\n":                     "f:",
		"# a comment\n" + s + ",u\n":       "f:2: 2 fields",
		"#" + strings.Repeat("x", MaxSize): "more than",
	} {
		_, err := ParseTokens("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.30q: want %q in: %v", text, want, err)
		}
	}
}

func FuzzTokens(f *testing.F) {
	f.Add([]byte("0123456789abcdef,u,i,\"g1,g2\"\n0123456789abcdeg,v,j\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tokens, err := ParseTokens("f", data)
		if err != nil {
			return
		}
		out, err := FormatTokens(tokens)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseTokens("g", out)
		if err != nil || !reflect.DeepEqual(back, tokens) {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}
