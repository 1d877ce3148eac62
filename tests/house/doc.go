// Package house holds the rules of this house as tests: who may import whom,
// what packages may be called, what source files may not hold, how large the
// core is, which parser has a fuzz test, and whether the documentation names
// verbs that exist.
//
// Guaranteed: a rule that is broken fails with the place and with what to do
// instead. An exception stands in a list in the test, with its reason; an
// exception that nothing needs any more fails too, so the lists only shrink.
// Not guaranteed: that code is good. The rules find what a program can find.
//
// The tests read sources. They build nothing, start nothing but go list, and
// need no network.
package house
