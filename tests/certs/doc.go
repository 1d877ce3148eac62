// Package certs tests that what certs/local signs passes the core's own
// checks, for every profile and both kinds of keys, and zlint's of RFC 5280,
// where that was built (make testtools). It starts the plugin as a process,
// without a node; tests/cluster judges the certificates of a real one.
package certs
