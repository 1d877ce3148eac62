package supervisor

import (
	"encoding/json"
	"fmt"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/process"
)

const stateSchema = 1

// record is what the supervisor remembers of one service.
type record struct {
	Definition service.Definition `json:"definition"`
	Wanted     bool               `json:"wanted"`
	Process    *process.ID        `json:"process,omitempty"`
}

type stateFile struct {
	Schema   int      `json:"schema"`
	Services []record `json:"services"`
}

// loadState reads the state. A file that is not there is an empty state.
func loadState(path string) ([]record, error) {
	return service.ReadFile(path, "supervisor state", parseState)
}

func parseState(b []byte) ([]record, error) {
	var s stateFile
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("is not readable: %w", err)
	}
	if s.Schema != stateSchema {
		return nil, fmt.Errorf("has schema %d, this mk reads %d", s.Schema, stateSchema)
	}
	defs := make([]service.Definition, 0, len(s.Services))
	for _, r := range s.Services {
		defs = append(defs, r.Definition)
	}
	if err := service.ValidateAll(defs); err != nil {
		return nil, err
	}
	return s.Services, nil
}

// saveState writes the state whole or not at all.
func saveState(path string, records []record) error {
	return service.WriteFile(path, "supervisor state", stateFile{Schema: stateSchema, Services: records})
}
