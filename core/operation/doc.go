// Package operation puts the questions to the plugins in order, applies what
// they answer, and keeps the journal of it: start, stop, enable, renew, swap.
//
// An operation is a procedure of named steps. Each step looks first what is
// already so, and its end is recorded; so whoever takes the operation lock
// next goes on where a killed process stopped, under the same operation id,
// for which plugins give the same answers.
//
// Guaranteed: what Begin returns holds the operation lock until End; a
// ChangeSet that was being applied is at one of its two ends before anything
// new begins; a dry run changes nothing. Not guaranteed: that a step which
// failed was undone elsewhere. The record says so, and mk changes shows it.
package operation
