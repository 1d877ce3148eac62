// Package pki makes the node's keys and certificate requests, and holds the policy of what may be signed.
//
// It guarantees that a request which CheckCSR passed asks for nothing that its profile and the node's record do not
// allow, and that a certificate which CheckCertificate passed is for the asked key, subject, names, usages and life, and
// verifies against the trust of its authority. Both report every fault they find, joined.
//
// It never holds, reads or makes the key of an authority: authorities are plugins. It touches no file and starts no
// program: it works on bytes, and the caller writes them. It reads no clock: the time is an argument.
package pki
