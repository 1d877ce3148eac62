package oneprocess_test

import (
	"slices"
	"testing"

	"mk8s.io/mk/cmd/kubelite/oneprocess"
)

func TestUnify(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   [][]string
		want [][]string
	}{
		{"nothing shared", [][]string{{"--a=1"}, {"--b"}}, [][]string{{"--a=1"}, {"--b"}}},
		{
			"logging of one reaches all, the last wins",
			[][]string{{"--v=2", "--a"}, {"--logging-format=json", "--v=4"}},
			[][]string{{"--a", "--logging-format=json", "--v=4"}, {"--logging-format=json", "--v=4"}},
		},
		{
			"gates are joined",
			[][]string{{"--feature-gates=kube:A=true,B=false"}, {"--feature-gates=B=true", "--feature-gates= C=true"}},
			[][]string{{"--feature-gates=A=true,B=true,C=true"}, {"--feature-gates=A=true,B=true,C=true"}},
		},
		{"underscores", [][]string{{"--feature_gates=A=true"}, {"--log_flush_frequency=1s"}}, [][]string{
			{"--log-flush-frequency=1s", "--feature-gates=A=true"}, {"--log-flush-frequency=1s", "--feature-gates=A=true"},
		}},
		{"names that only begin alike stay", [][]string{{"--volume-plugin-dir=/x", "--log-dir=/y"}, nil}, [][]string{{"--volume-plugin-dir=/x", "--log-dir=/y"}, nil}},
		{"an empty list of gates is none", [][]string{{"--feature-gates="}}, [][]string{nil}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := oneprocess.Unify(tt.in...)
			if !slices.EqualFunc(got, tt.want, slices.Equal[[]string]) {
				t.Errorf("Unify(%q)\n got %q\nwant %q", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzUnify(f *testing.F) {
	f.Add("--v=2", "--feature-gates=A=true,,=")
	f.Add("--feature-gates", "=")
	f.Fuzz(func(t *testing.T, a, b string) {
		once := oneprocess.Unify([]string{a}, []string{b})
		twice := oneprocess.Unify(once...)
		if !slices.EqualFunc(once, twice, slices.Equal[[]string]) {
			t.Errorf("not stable: %q, then %q", once, twice)
		}
	})
}
