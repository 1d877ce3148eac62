// Package node is one node's root folder: every path it holds, its identity
// and its role (node.json), and the only way in which mk writes below it.
//
// It guarantees that a name never leads out of the root folder (by "..", an
// absolute name or a symbolic link), that a file is seen either as it was or
// as it shall be, with its final mode and owner from the first byte on, and
// that what a call reported as done is still there after a power cut.
//
// It takes no lock: who changes a node holds the locks of core/lock. It knows
// no strategy, starts nothing and reads no setting.
package node
