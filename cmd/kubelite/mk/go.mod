// The part of mk that kubelite shares, as a module without requirements: the folder below is a link to the real one.
// Were the whole of mk required, its dependencies would raise those that Kubernetes is released and tested with, and
// each change of them would compile Kubernetes anew.
module mk8s.io/mk

go 1.26.0
