package service

import (
	"errors"
	"fmt"
	"io"
	"os"
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
