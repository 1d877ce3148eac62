package supervisor

import (
	"path/filepath"
	"reflect"
	"testing"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/process"
)

func TestStateSurvives(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "services.json")
	if got, err := loadState(path); err != nil || got != nil {
		t.Fatalf("no file: %v, %v", got, err)
	}
	want := []record{{
		Definition: service.Definition{Name: "etcd", Path: "/x"}.WithDefaults(), Wanted: true,
		Process: &process.ID{PID: 7, Start: 8, Boot: "b", Exe: "/x"},
	}}
	if err := saveState(path, want); err != nil {
		t.Fatal(err)
	}
	if got, err := loadState(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"schema":1,"services":[{"definition":{"name":"etcd","path":"/x"},"wanted":true}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := parseState(b)
		if err != nil {
			return
		}
		for _, r := range records {
			if err := r.Definition.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
