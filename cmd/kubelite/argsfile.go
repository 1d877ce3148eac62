package main

import "mk8s.io/mk/core/args"

// loadArgs reads an args file.
func loadArgs(path string) ([]string, error) {
	file, err := args.Load(path)
	if err != nil {
		return nil, err
	}
	return file.Argv(), nil
}
