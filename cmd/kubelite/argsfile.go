package main

import (
	"fmt"
	"os"
	"strings"
)

// loadArgs reads an args file.
func loadArgs(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read args file: %w", err)
	}
	var argv []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if i := strings.IndexAny(line, "= \t"); i > 0 {
			line = line[:i] + "=" + strings.Trim(strings.TrimSpace(line[i+1:]), `"'`)
		}
		argv = append(argv, line)
	}
	return argv, nil
}
