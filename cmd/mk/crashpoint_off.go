//go:build !crashpoint

package main

import "time"

// clock is the machine's: only the mk of tests goes by another one.
func clock(string) func() time.Time { return time.Now }

// crashStep is nil: only the mk that tests kill has steps to die at.
func crashStep(func(string) string, string) func(op, path string) { return nil }
