package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"mk8s.io/mk/core/node"
)

const maxFile = 8 << 20

// ReadFile reads what a manager keeps of its services; what names that. A file
// that is not there keeps nothing.
func ReadFile[T any](path, what string, parse func([]byte) ([]T, error)) ([]T, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", what, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("there are more than %d bytes", maxFile)
	}
	var out []T
	if err == nil {
		out, err = parse(b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, path, err)
	}
	return out, nil
}

// WriteFile keeps that, whole or not at all.
func WriteFile(path, what string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err == nil {
		err = node.WriteFile(path, append(b, '\n'), node.Perm{Mode: 0o600, UID: -1, GID: -1})
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	return nil
}
