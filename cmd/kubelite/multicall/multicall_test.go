package multicall_test

import (
	"slices"
	"strings"
	"testing"

	"mk8s.io/mk/cmd/kubelite/multicall"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		argv []string
		want string
		args []string
	}{
		{"nothing at all", nil, "kubelite", nil},
		{"bare", []string{"/opt/kubelite"}, "kubelite", nil},
		{"options", []string{"kubelite", "--start-control-plane=false"}, "kubelite", []string{"--start-control-plane=false"}},
		{"named server", []string{"kubelite", "kubelite", "--x"}, "kubelite", []string{"--x"}},
		{"first argument", []string{"/opt/kubelite", "kubectl", "get", "nodes"}, "kubectl", []string{"get", "nodes"}},
		{"link", []string{"/usr/bin/kubectl", "get", "nodes"}, "kubectl", []string{"get", "nodes"}},
		{"link whose argument is a program", []string{"etcd", "version"}, "etcd", []string{"version"}},
		{"binary under another name", []string{"/tmp/kubelite.new", "version"}, "version", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, args, err := multicall.Choose(tt.argv)
			if err != nil {
				t.Fatalf("Choose(%q): %v", tt.argv, err)
			}
			if got != tt.want || !slices.Equal(args, tt.args) {
				t.Errorf("Choose(%q) = %q, %q; want %q, %q", tt.argv, got, args, tt.want, tt.args)
			}
		})
	}
}

func TestChooseRefusesAnUnknownProgram(t *testing.T) {
	t.Parallel()
	_, _, err := multicall.Choose([]string{"kubelite", "kubeclt"})
	if err == nil || !strings.Contains(err.Error(), `"kubeclt"`) || !strings.Contains(err.Error(), "kubectl") {
		t.Errorf("err = %v; want one that names kubeclt and the programs there are", err)
	}
}
