// Package cli tests the program mk as a user types it: its words, its streams
// and its exit codes, on a machine without a node. What needs a node is tested
// elsewhere; nothing here starts a service or leaves the test's own folder.
package cli
