// Package change applies ChangeSets: the only place in mk that changes a node.
//
// A ChangeSet is checked against the grants of who answered it (Check), shown
// (Preview), and applied (Engine.Apply) in four phases:
//
//	prepare   certificates are made, signed and checked, in memory    no lock
//	apply     everything on this node, in order; services restart     apply lock
//	          once, at the end
//	objects   datastore members, manifests, what the cluster wants    no lock
//	wait      until what the ChangeSet names is so                    no lock
//
// Guaranteed: a process killed at any instruction leaves a node that Recover
// brings to one of two states, as before or as wanted. The journal makes that
// so: new contents lie staged on their file system before the record that
// commits to them is written; what is replaced stays under a name of its own
// until the next change begins. So Recover rolls forward where that record is
// there, and back where it is not, or where someone had begun to go back. An
// apply that fails is undone before Apply returns, and what could not be
// undone is named.
//
// The journal holds paths, digests and modes, never contents.
//
// Not guaranteed: anything about programs that write the same files without
// the apply lock, beyond that a digest which an operation expects is compared
// under the lock. A ChangeSet that moves or removes what it has itself made is
// refused: it contradicts itself.
package change
