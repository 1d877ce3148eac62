package systemd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
)

const maxDefinitions = 8 << 20

type definitionsFile struct {
	Schema   int                  `json:"schema"`
	Services []service.Definition `json:"services"`
}

func loadDefinitions(path string) ([]service.Definition, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open service definitions: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDefinitions+1))
	if err != nil {
		return nil, fmt.Errorf("read service definitions %s: %w", path, err)
	}
	defs, err := parseDefinitions(b)
	if err != nil {
		return nil, fmt.Errorf("service definitions %s: %w", path, err)
	}
	return defs, nil
}

func parseDefinitions(b []byte) ([]service.Definition, error) {
	if len(b) > maxDefinitions {
		return nil, fmt.Errorf("are larger than %d bytes", maxDefinitions)
	}
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
	b, err := json.MarshalIndent(definitionsFile{Schema: 1, Services: defs}, "", " ")
	if err != nil {
		return fmt.Errorf("write service definitions: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write service definitions: %w", err)
	}
	if err := node.WriteFile(path, append(b, '\n'), node.Perm{Mode: 0o600, UID: -1, GID: -1}); err != nil {
		return fmt.Errorf("write service definitions: %w", err)
	}
	return nil
}
