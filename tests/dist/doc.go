// Package dist holds the test of the archive that a release is: the same
// programs make the same bytes, whoever packs them, when and where. That
// compilers do so, too, is theirs to guarantee.
package dist
