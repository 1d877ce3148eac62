// Package kube is everything that mk does through the Kubernetes API: asking whether the API server and a node are ready,
// listing, draining and changing nodes, applying manifests with an inventory, probing the objects of addons, judging
// manifests against grants, and serving certificate signing requests.
//
// It guarantees that every call ends when its context does, even where the API server accepts connections and never
// answers; that nothing is deleted which an inventory does not hold; and that applying the same input again writes
// nothing. It does no discovery and builds no REST mapper unless a call needs one: the resources of one group version are
// read when an object of that group version is applied or deleted, and only then.
//
// It does not decide: who may get a certificate is answered by pure functions (DecideCSR) that the caller asks, signing is
// the caller's, and so is the namespace mk-system, which must exist before Apply. It promises no order between two
// processes that apply one inventory at once beyond this: one of them fails with a conflict.
package kube
