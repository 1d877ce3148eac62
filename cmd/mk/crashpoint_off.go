//go:build !crashpoint

package main

// crashStep is nil: only the mk that tests kill has steps to die at.
func crashStep(func(string) string, string) func(op, path string) { return nil }
