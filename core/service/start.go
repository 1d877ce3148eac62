package service

import "fmt"

// StartError says which service did not come up, and why.
type StartError struct {
	Service   string `json:"service"`
	What      string `json:"what"`                // "it ended 3 times before it was ready (exit status 1)"
	LastError string `json:"lastError,omitempty"` // that it wrote
	Err       error  `json:"-"`                   // what ended the wait; nil where it was of no use
}

// Error names all of it.
func (e *StartError) Error() string {
	s := fmt.Sprintf("start %s: %s", e.Service, e.What)
	if e.LastError != "" {
		s += ": " + e.LastError
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives what ended the wait.
func (e *StartError) Unwrap() error { return e.Err }
