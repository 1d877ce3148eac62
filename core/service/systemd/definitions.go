package systemd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"mk8s.io/mk/core/service"
)

type definitionsFile struct {
	Schema   int                  `json:"schema"`
	Services []service.Definition `json:"services"`
}

func loadDefinitions(path string) ([]service.Definition, error) {
	return service.ReadFile(path, "service definitions", parseDefinitions)
}

func parseDefinitions(b []byte) ([]service.Definition, error) {
	var file definitionsFile
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("are not readable: %w", err)
	}
	if file.Schema != 1 {
		return nil, fmt.Errorf("have schema %d, this mk reads 1", file.Schema)
	}
	return file.Services, service.ValidateAll(file.Services)
}

func saveDefinitions(path string, defs []service.Definition) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write service definitions: %w", err)
	}
	return service.WriteFile(path, "service definitions", definitionsFile{Schema: 1, Services: defs})
}
