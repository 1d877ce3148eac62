// Package change applies ChangeSets: the only place in mk that changes a node.
//
// A ChangeSet is checked against the grants of who answered it (Check), shown
// (Show), and applied (Engine.Apply) in four phases:
//
//	prepare   certificates are made, signed and checked, in memory    no lock
//	apply     everything on this node, in order; services restart     apply lock
//	          once, at the end
//	objects   datastore members, manifests, what the cluster wants    no lock
//	wait      until what the ChangeSet names is so                    no lock
//
// Guaranteed: a process killed at any instruction leaves a node that Recover
// brings to one of two states, as before or as wanted. The journal
// makes that so: new contents lie staged beside their targets before the
// record that commits to them is written; what is replaced stays as a link
// beside its target until the next change begins. So Recover rolls forward
// where that record is there, and back where it is not. An apply that fails is
// undone before Apply returns.
//
// The journal holds paths, digests and modes, never contents.
//
// Not guaranteed: anything about programs that write the same files without
// the apply lock, beyond that a digest which an operation expects is compared
// under the lock.
package change
